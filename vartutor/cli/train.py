"""Commands that train: train, study, publish."""

import argparse
import shlex
from pathlib import Path

from vartutor.cli.parser import Commands, add_profile, add_seed
from vartutor.errors import UserError


def _tokenizer(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed
    from vartutor.paths import commit
    from vartutor.profiles import get_profile
    from vartutor.tokenizer.build import parse_groups
    from vartutor.train.tokenizer import Losses, evaluate_tokenizer, train_tokenizer

    profile = get_profile(args.profile)
    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps {args.steps}: give a whole number from 1 on")
    trainer = train_tokenizer(
        profile,
        args.out,
        ladder=args.ladder,
        groups=parse_groups(args.groups) if args.groups else None,
        overlap=not args.no_overlap,
        bridge=args.bridge,
        seed=check_seed(args.seed),
        steps=args.steps,
        losses=Losses(perceptual=args.perceptual, adversarial=args.adversarial, bypass=args.bypass),
        bf16=args.bf16,
        resume=args.resume,
        origin={"command": shlex.join(["vartutor", *args.words]), "commit": commit()},
    )
    scores = evaluate_tokenizer(trainer.averaged, profile, "val")
    print("validation: " + ", ".join(f"×{s} {v.mean():.2f} dB" for s, v in scores.items()))
    print(f"weights and log: {args.out}")
    return 0


def _baseline(args: argparse.Namespace) -> int:
    from vartutor.baselines.cnn import CnnConfig
    from vartutor.chapter import check_seed
    from vartutor.paths import commit
    from vartutor.profiles import get_profile
    from vartutor.train.baseline import train_baseline

    profile = get_profile(args.profile)
    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps {args.steps}: give a whole number from 1 on")
    width = profile.cnn_width if args.width is None else args.width
    blocks = profile.cnn_blocks if args.blocks is None else args.blocks
    config = CnnConfig(width, blocks, tuple(args.heads), args.residual_scale)
    trainer = train_baseline(
        profile,
        args.out,
        config=config,
        lr=args.lr,
        seed=check_seed(args.seed),
        steps=args.steps,
        seconds=args.seconds,
        bf16=args.bf16,
        resume=args.resume,
        origin={"command": shlex.join(["vartutor", *args.words]), "commit": commit()},
    )
    million = sum(p.numel() for p in trainer.model.parameters()) / 1e6
    print(f"{million:.2f} M parameters, {trainer.step} steps in {trainer.seconds:.0f} s; weights and log: {args.out}")
    return 0


def _publish(args: argparse.Namespace) -> int:
    from vartutor.profiles import get_profile
    from vartutor.train.publish import publish_tokenizer

    entry = publish_tokenizer(args.run, get_profile(args.profile))
    print(f"{entry['what']}: {entry['metrics']}")
    return 0


def _study(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed
    from vartutor.profiles import get_profile
    from vartutor.train.studies import run_study

    seeds = [check_seed(seed) for seed in args.seeds]
    print(run_study(args.runs, get_profile(args.profile), args.out, steps=args.steps, seeds=seeds))
    return 0


def add(commands: Commands) -> None:
    """Add these commands."""
    train = Commands(commands.add("train", None, "train a model on the shipped photos"), "what")
    sub = train.add("tokenizer", _tokenizer, "train a tokenizer: hierarchical, plain multi-scale, or of one map")
    add_profile(sub)
    sub.add_argument(
        "--ladder", default="hit", help="hit (default): hierarchical; var: plain, with the same token maps; vq: one map"
    )
    sub.add_argument("--groups", help="token maps instead of the profile's, such as '1,2,4 | 8 | 16'")
    sub.add_argument("--no-overlap", action="store_true", help="hit: every group quantizes its image alone")
    sub.add_argument("--bridge", type=int, help="hit: hidden channels between the groups; 0: bicubic alone")
    sub.add_argument("--perceptual", type=float, default=0.0, help="weight of the perceptual distance (default 0)")
    sub.add_argument("--adversarial", type=float, default=0.0, help="weight of the adversarial loss (default 0)")
    sub.add_argument("--bypass", type=float, default=0.1, help="share of images that skip the quantizer (default 0.1)")
    add_seed(sub)
    add_run(sub, "build/tokenizer")
    sub = train.add("baseline", _baseline, "train the convolutional super-resolver that the transformer has to beat")
    add_profile(sub)
    sub.add_argument("--heads", type=int, nargs="+", default=[1, 2, 4], help="scales of the one net (default 1 2 4)")
    sub.add_argument("--width", type=int, help="channels, instead of the profile's")
    sub.add_argument("--blocks", type=int, help="residual blocks, instead of the profile's")
    sub.add_argument("--residual-scale", type=float, default=1.0, help="of each block's branch (default 1)")
    sub.add_argument("--lr", type=float, default=1e-3, help="peak learning rate (default 0.001)")
    sub.add_argument("--seconds", type=float, help="instead of steps: as many as fit, by a few trial steps")
    add_seed(sub)
    add_run(sub, "build/baseline")
    sub = commands.add("publish", _publish, "put a trained tokenizer among the shipped checkpoints")
    sub.add_argument("run", type=Path, help="folder of the training run")
    sub.add_argument("--profile", default="cpu", help="that the run was trained with (default cpu)")
    sub = commands.add("study", _study, "short training runs that compare tokenizers, into one table")
    sub.add_argument("runs", nargs="*", metavar="RUN", help="names, such as hit or 'one more scale'; all if left out")
    add_profile(sub)
    sub.add_argument("--steps", type=int, default=600, help="of each run (default 600)")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed (default 0)")
    sub.add_argument("--out", type=Path, default=Path("build/study"), help="folder for the results")


def add_run(sub: argparse.ArgumentParser, out: str) -> None:
    """Add the options that every training run has."""
    sub.add_argument("--steps", type=int, help="instead of the profile's")
    sub.add_argument("--bf16", action="store_true", help="the networks in bfloat16")
    sub.add_argument("--out", type=Path, default=Path(out), help="folder for state.pt and log.csv")
    sub.add_argument("--resume", action="store_true", help="go on from the state in --out")
