"""Commands for what is trained: study compares short runs, publish puts a model among the shipped ones."""

import argparse
from pathlib import Path

from vartutor.cli.parser import Commands, add_profile
from vartutor.errors import UserError

STUDIES = ("tokenizer", "transformer", "preference", "scaling")


def _publish(args: argparse.Namespace) -> int:
    from vartutor.profiles import get_profile, toy
    from vartutor.workshop.publish import publish

    profile = toy(get_profile(args.profile)) if args.dry_run else get_profile(args.profile)
    entry = publish(args.run, profile, args.out, args.name, args.licence)
    print(f"{entry['what']}: {entry['metrics']}")
    return 0


def _study(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed
    from vartutor.evaluate.measures import measure
    from vartutor.profiles import get_profile
    from vartutor.weights import load_start, load_tokenizer
    from vartutor.workshop.preference_study import run_preference_study
    from vartutor.workshop.scaling_study import run_scaling_study
    from vartutor.workshop.tokenizer_study import run_tokenizer_study
    from vartutor.workshop.transformer_study import run_transformer_study

    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps {args.steps}: give a whole number from 1 on")
    if args.of not in STUDIES:
        raise UserError(f"no study of {args.of!r}: choose {', '.join(STUDIES)}")
    profile, names, out = get_profile(args.profile), args.runs, args.out
    usual = (600, profile.study_steps, profile.transformer.preference_steps, 100)
    steps = args.steps or dict(zip(STUDIES, usual, strict=True))[args.of]
    options = {"steps": steps, "seeds": [check_seed(seed) for seed in args.seeds]}
    if args.of == "tokenizer":
        path = run_tokenizer_study(names, profile, out, **options)
    elif args.of == "transformer":
        over = load_tokenizer("hit"), load_tokenizer("var")
        path = run_transformer_study(names, profile, *over, out, compare=measure, **options)
    elif args.of == "preference":
        path = run_preference_study(names, profile, *load_start(args.start), out, compare=measure, **options)
    else:
        path = run_scaling_study(names, profile, load_tokenizer("hit"), out, **options)
    print(path)
    return 0


def add(commands: Commands) -> None:
    """Add these commands."""
    sub = commands.add("publish", _publish, "put a trained model among the shipped checkpoints")
    sub.add_argument("run", type=Path, help="folder of the training run")
    sub.add_argument(
        "--name", default="course", help="of a transformer and what is trained over it, or a CNN (default course)"
    )
    sub.add_argument("--profile", default="cpu", help="that the run was trained with (default cpu)")
    sub.add_argument("--dry-run", action="store_true", help="the run was a dry one")
    sub.add_argument("--out", type=Path, help="a folder of your own, with a model card, instead of the course's")
    sub.add_argument("--licence", default="Apache-2.0", help="of the weights (default Apache-2.0)")
    sub = commands.add(
        "study", _study, "short training runs that compare tokenizers, transformers, preferences or sizes: one table"
    )
    sub.add_argument(
        "runs", nargs="*", metavar="RUN", help="names, such as hit, 'no prior' or 'beta 2'; all if left out"
    )
    sub.add_argument("--of", default="tokenizer", help=f"what is compared: {', '.join(STUDIES)}")
    sub.add_argument("--start", default="course", help="of preferences: the transformer to fine-tune (default course)")
    add_profile(sub)
    sub.add_argument(
        "--steps",
        type=int,
        help="of each run (default 600; of transformers and preferences the profile's; the shortest of scaling, 100)",
    )
    sub.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed (default 0)")
    sub.add_argument("--out", type=Path, default=Path("build/study"), help="folder for the results")
