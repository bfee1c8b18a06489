"""The command that says what a training run needs: plan."""

import argparse

from vartutor.cli.parser import Commands


def _plan(args: argparse.Namespace) -> int:
    from vartutor.gpus import get_gpu
    from vartutor.plan.estimate import RUNS, Setup, make_plan
    from vartutor.plan.report import report
    from vartutor.profiles import get_profile

    profile = get_profile(args.profile)
    setup = Setup(
        get_gpu(args.gpu),
        args.gpus,
        args.batch,
        args.steps,
        args.strategy,
        args.utilisation,
        args.checkpointing,
        not args.fp32,
        args.price,
    )
    print("\n\n".join(report(make_plan(run, profile, setup)) for run in args.runs or RUNS))
    return 0


def add(commands: Commands) -> None:
    """Add this command."""
    sub = commands.add("plan", _plan, "parameters, FLOPs, memory, hours and cost of a training run on GPUs")
    sub.add_argument("runs", nargs="*", metavar="RUN", help="tokenizer, transformer, preference; all if left out")
    sub.add_argument("--profile", default="gpu", help="smoke, cpu or gpu (default)")
    sub.add_argument("--gpus", type=int, default=8, help="how many (default 8)")
    sub.add_argument("--gpu", default="h100", help="a100-40, a100-80, h100 (default), h200, l40s or rtx4090")
    sub.add_argument("--batch", type=int, help="images per step, over all GPUs, instead of the profile's")
    sub.add_argument("--steps", type=int, help="instead of the profile's")
    sub.add_argument("--strategy", default="ddp", help="ddp (default) or fsdp")
    sub.add_argument("--utilisation", type=float, help="share of the GPUs' peak, as measured (assumed: 0.2)")
    sub.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute the blocks' activations twice instead of keeping them, or not, whatever the profile says",
    )
    sub.add_argument("--fp32", action="store_true", help="activations in float32 instead of bfloat16")
    sub.add_argument("--price", type=float, help="dollars per hour and GPU, instead of the table's")
