"""Commands that say what a training run needs: plan counts it, measure takes its time on a GPU."""

import argparse
from pathlib import Path

from vartutor.cli.parser import Commands


def _plan(args: argparse.Namespace) -> int:
    from vartutor.gpus import get_gpu
    from vartutor.plan.estimate import RUNS, Setup, make_plan
    from vartutor.plan.report import report
    from vartutor.profiles import get_profile

    profile = get_profile(args.profile or ("gpu1" if args.gpus == 1 else "gpu"))
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


def _measure(args: argparse.Namespace) -> int:
    from vartutor.plan.measure import measure_gpu
    from vartutor.plan.measured import verdict, write_measured
    from vartutor.profiles import get_profile, toy
    from vartutor.train.processes import this_process

    profile = get_profile("gpu1")
    with this_process(args.device) as process:
        print(f"measures on {process}, for {args.minutes:g} minutes at most")
        rows = measure_gpu(toy(profile) if args.dry_run else profile, process, args.minutes, print)
    write_measured(args.out, rows)
    lines = verdict(rows)
    print(*lines, args.out, sep="\n")
    return int(any(line.startswith("WRONG") for line in lines))


def add(commands: Commands) -> None:
    """Add these commands."""
    sub = commands.add("plan", _plan, "parameters, FLOPs, memory, hours and cost of a training run on GPUs")
    sub.add_argument("runs", nargs="*", metavar="RUN", help="tokenizer, transformer, preference; all if left out")
    sub.add_argument("--profile", help="any; left out, gpu, or gpu1 for one GPU")
    sub.add_argument("--gpus", type=int, default=8, help="how many (default 8)")
    sub.add_argument("--gpu", default="h100", help="a100-40, a100-80, h100 (default), h200, l40s or rtx4090")
    sub.add_argument("--batch", type=int, help="images per step, over all GPUs, instead of the profile's")
    sub.add_argument("--steps", type=int, help="instead of the profile's")
    sub.add_argument("--strategy", default="ddp", help="ddp (default) or fsdp")
    sub.add_argument("--utilisation", type=float, help="share of the GPUs' peak, as measured (assumed: 0.2)")
    sub.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute the blocks' activations twice instead of keeping them, or not; left out, where few would fit",
    )
    sub.add_argument("--fp32", action="store_true", help="activations in float32 instead of bfloat16")
    sub.add_argument("--price", type=float, help="dollars per hour and GPU, instead of the table's")
    sub = commands.add("measure", _measure, "the published size on this machine's GPU, beside the plan: one table")
    sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default): a GPU if there is one")
    sub.add_argument("--minutes", type=float, default=7.0, help="after which nothing more is begun (default 7)")
    sub.add_argument("--dry-run", action="store_true", help="the same at toy size, on any machine")
    sub.add_argument("--out", type=Path, default=Path("gpu_check.csv"), help="the table (default gpu_check.csv)")
