"""Commands for what is trained: study compares short runs, publish puts a model among the shipped ones."""

import argparse
from pathlib import Path

from vartutor.cli.parser import Commands, add_profile, check_steps
from vartutor.errors import UserError


def _publish(args: argparse.Namespace) -> int:
    from vartutor.profiles import get_profile
    from vartutor.train.publish import publish

    entry = publish(args.run, get_profile(args.profile), name=args.name)
    print(f"{entry['what']}: {entry['metrics']}")
    return 0


def _study(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed
    from vartutor.profiles import get_profile
    from vartutor.train.studies import run_study

    profile, seeds = get_profile(args.profile), [check_seed(seed) for seed in args.seeds]
    check_steps(args.steps)
    if args.of == "tokenizer":
        print(run_study(args.runs, profile, args.out, steps=args.steps or 600, seeds=seeds))
        return 0
    if args.of == "scaling":
        from vartutor.tokenizer import load_pretrained
        from vartutor.train.scaling_study import run_scaling_study

        options = {"steps": args.steps or 100, "seeds": seeds}
        print(run_scaling_study(args.runs, profile, load_pretrained("hit"), args.out, **options))
        return 0
    if args.of != "preference":
        raise UserError(f"no study of {args.of!r}: choose tokenizer, preference or scaling")

    from vartutor.evaluate.measures import measure
    from vartutor.train.preference_study import run_preference_study
    from vartutor.train.runs import find_start
    from vartutor.train.transformer import Objective

    model, tokenizer, objective = find_start(args.start)
    start, steps = (model, tokenizer, Objective(**objective)), args.steps or profile.transformer.preference_steps
    options = {"steps": steps, "seeds": seeds, "compare": measure}
    print(run_preference_study(args.runs, profile, *start, args.out, **options))
    return 0


def add(commands: Commands) -> None:
    """Add these commands."""
    sub = commands.add("publish", _publish, "put a trained model among the shipped checkpoints")
    sub.add_argument("run", type=Path, help="folder of the training run")
    sub.add_argument("--name", default="course", help="of a transformer and its fidelity module (default course)")
    sub.add_argument("--profile", default="cpu", help="that the run was trained with (default cpu)")
    sub = commands.add(
        "study", _study, "short training runs that compare tokenizers, preferences or sizes, into one table"
    )
    sub.add_argument("runs", nargs="*", metavar="RUN", help="names, such as hit or 'beta 2'; all if left out")
    sub.add_argument("--of", default="tokenizer", help="what is compared: tokenizer (default), preference or scaling")
    sub.add_argument("--start", default="course", help="of preferences: the transformer to fine-tune (default course)")
    add_profile(sub)
    sub.add_argument(
        "--steps",
        type=int,
        help="of each run (default 600; of preferences the profile's; of scaling the shortest, 100)",
    )
    sub.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed (default 0)")
    sub.add_argument("--out", type=Path, default=Path("build/study"), help="folder for the results")
