"""What ``vartutor train`` does under torchrun, or when it is told settings by file or by key."""

import argparse
import os
from dataclasses import replace

from vartutor.profiles import Profile, get_profile
from vartutor.train.config import RunConfig, read_config
from vartutor.train.launch import launch


def is_full_run(args: argparse.Namespace) -> bool:
    """Whether these options, or torchrun, ask for what :mod:`vartutor.train.launch` does."""
    told = [getattr(args, name, None) for name in ("config", "set", "max_hours", "dry_run")]
    return any(told) or "TORCHELASTIC_RUN_ID" in os.environ


def full_run(
    args: argparse.Namespace, what: str, options: dict, over: dict, lr: float | None = None, **others
) -> Profile | None:
    """Train; the profile with all settings in the process that reports, None in the others.

    Args:
        options: seed, steps, bf16, resume and origin.
        over: settings from other options of the command line; --config goes over them, --dry-run over that, and
            --set over all.
    """
    run = RunConfig.of(what, get_profile(args.profile))
    steps, bf16 = options.pop("steps"), options.pop("bf16")
    loop = {name: value for name, value in (("steps", steps), ("lr", lr)) if value}
    run = replace(run, loop=replace(run.loop, **loop), bf16=bf16, max_hours=args.max_hours or 0.0, **over)
    run = read_config(run, args.config)
    if args.dry_run:
        run = run.dry(int(os.environ.get("WORLD_SIZE", "1")))
    trainer = launch(what, read_config(run, None, args.set), args.out, **options, **others)
    return trainer.run.profile if trainer.process.rank == 0 else None
