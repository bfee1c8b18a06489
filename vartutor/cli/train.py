"""The command that trains: train, with a subcommand for each kind of model."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from vartutor.cli.parser import Commands, add_profile
from vartutor.errors import UserError

SUMMARIES = {
    "tokenizer": "train a tokenizer: hierarchical, plain multi-scale, or of one map",
    "transformer": "train the transformer that restores photos, over a tokenizer",
    "preference": "fine-tune a transformer to prefer the clean photo's tokens to the degraded photo's: DPO",
    "fidelity": "train the decoder to look at the degraded photo, over a transformer",
    "baseline": "train the convolutional super-resolver that the transformer has to beat, on the same pairs",
    "refiner": "train the diffusion refiner of the finest token map, over a transformer",
}


def _train(args: argparse.Namespace) -> int:
    from vartutor.paths import commit
    from vartutor.plan.rounds import train_in_rounds
    from vartutor.profiles import get_profile
    from vartutor.train.kinds import KINDS, saved_settings
    from vartutor.train.options import differences, read_settings
    from vartutor.train.processes import this_process
    from vartutor.weights.files import STATE

    if (args.out / STATE).exists() and not args.resume:
        raise UserError(f"{args.out}: holds a run already; --resume goes on with it, or choose another --out")
    chief = os.environ.get("RANK", "0") == "0"
    if args.resume:
        before = saved_settings(args.what, args.out)
        # A dry run's sizes rule over its file's.
        run = read_settings(before, None if args.dry_run else args.config, args.set)
        if args.profile and args.profile != before.profile.name:
            raise UserError(f"{args.out}: of profile {before.profile.name}, not {args.profile}")
        for line in differences(before, run) if chief else ():
            print(f"from here on, {line}")
    else:
        run = read_settings(KINDS[args.what].settings.of(get_profile(args.profile or "cpu")), args.config)
        words = args.set or []
        if args.dry_run:
            run = run.dry(int(os.environ.get("WORLD_SIZE", "1")))
            for word in (word for word in words if word.startswith("init=") and chief):
                print(f"dry run: {word} is left out")  # a toy starts from no weights that fit the whole
            words = [word for word in words if not word.startswith("init=")]
        run = read_settings(run, None, words)
    origin = {"command": _command(args.words), "commit": commit()}
    options = {"device": args.device, "resume": args.resume, "max_hours": args.max_hours, "origin": origin}
    options |= {"quiet": False, "report": not args.no_report}
    hint, code = f"go on with: {_command(args.words, resume=True)}", 0
    try:
        with this_process(args.device) as process:
            trainer = train_in_rounds(args.what, run, args.out, process, **options)
        stopped = trainer.timed_out
    except KeyboardInterrupt:
        stopped, code = True, 130
    if chief and stopped:
        print(hint, file=sys.stderr)
    elif chief:
        print(f"weights and log: {args.out}")
    return code


def _command(words: list[str], resume: bool = False) -> str:
    """What was typed, and under what; with ``resume`` what goes on from there."""
    start = ["vartutor"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        start = ["torchrun", "--nproc-per-node", os.environ["LOCAL_WORLD_SIZE"], "-m", "vartutor"]
    more = ["--resume"] if resume and "--resume" not in words else []
    return shlex.join([*start, *words, *more])


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that ends with the settings, which are read only where somebody asks."""

    def add_text(self, text) -> None:
        super().add_text(text() if callable(text) else text)


def _settings(what: str):
    def lines() -> str:
        from vartutor.profiles import get_profile
        from vartutor.train.kinds import KINDS
        from vartutor.train.options import describe_settings

        shown = describe_settings(KINDS[what].settings.of(get_profile("cpu")))
        return "\n".join(["settings of profile cpu, for --set and --config:", *shown])

    return lines


def add(commands: Commands) -> None:
    """Add this command."""
    train = Commands(commands.add("train", None, "train a model on the shipped photos, or on your own"), "what")
    for what, summary in SUMMARIES.items():
        sub = train.add(what, _train, summary)
        sub.formatter_class, sub.epilog = _Help, _settings(what)
        add_profile(sub, default=None)
        sub.add_argument("--out", type=Path, default=Path("build") / what, help="folder for state.pt and log.csv")
        sub.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default): a GPU if there is one")
        sub.add_argument("--config", type=Path, help="YAML file with settings over the profile's")
        sub.add_argument("--set", action="append", metavar="KEY=VALUE", help="one setting over both; repeat it")
        sub.add_argument("--max-hours", type=float, default=0.0, help="save and stop after this time")
        sub.add_argument("--resume", action="store_true", help="go on from the state in --out, with its settings")
        sub.add_argument("--dry-run", action="store_true", help="the same at toy size, a few steps long")
        sub.add_argument("--no-report", action="store_true", help="do not measure it on validation photos at the end")
