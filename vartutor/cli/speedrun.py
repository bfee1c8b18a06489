"""The commands that make a model from nothing: speedrun on a GPU, overnight on two cores."""

import argparse
import shlex
import sys
from pathlib import Path

from vartutor.cli.parser import Commands

RECIPES = {
    "speedrun": "a model from nothing on one GPU, in minutes: restorer, tokenizer, transformer, look; measured",
    "overnight": "the same on two cores, in a night",
}


def _speedrun(args: argparse.Namespace) -> int:
    from vartutor.workshop.speedrun import speedrun

    again = f"go on with: {shlex.join(['vartutor', *args.words])}"
    options = {"minutes": args.minutes, "max_hours": args.max_hours, "device": args.device, "dry": args.dry_run}
    try:
        done = speedrun(args.recipe or args.command, args.photos, args.out, words=args.words, **options)
    except KeyboardInterrupt:
        print(again, file=sys.stderr)
        return 130
    if not done:
        print(again, file=sys.stderr)
        return 0
    print((args.out / "results" / "summary.md").read_text(encoding="utf-8"))
    print(f"weights: {args.out / 'weights'}, photos: {args.out / 'results' / 'samples.png'}")
    return 0


def add(commands: Commands) -> None:
    """Add these commands."""
    for name, summary in RECIPES.items():
        sub = commands.add(name, _speedrun, summary)
        sub.add_argument("--photos", default="photos", metavar="FOLDER", help="to train on (default: the course's)")
        sub.add_argument("--out", type=Path, default=Path("build") / name, help="folder for stages and results")
        sub.add_argument("--recipe", type=Path, metavar="FILE", help=f"YAML, instead of assets/recipes/{name}.yaml")
        sub.add_argument("--minutes", type=float, default=0.0, help="of training in all, instead of the recipe's")
        sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default): a GPU if there is one")
        sub.add_argument("--max-hours", type=float, default=0.0, help="save and stop after this time")
        sub.add_argument("--dry-run", action="store_true", help="the same at toy size, a few steps long")
