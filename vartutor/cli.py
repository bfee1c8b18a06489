"""The ``vartutor`` command. Imports wait until a command needs them, so that ``--help`` is quick."""

import argparse
import shlex
import sys
from pathlib import Path

from vartutor import __version__
from vartutor.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong call gets one line instead of the usage text."""

    def error(self, message: str) -> None:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _run(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed, find_device
    from vartutor.course.chapters import find_chapters
    from vartutor.course.execute import run
    from vartutor.paths import course_root
    from vartutor.profiles import get_profile

    parameters = {"PROFILE": get_profile(args.profile).name, "SEED": check_seed(args.seed), "DEVICE": args.device}
    find_device(args.device)
    chapters = find_chapters(course_root(), args.chapters)
    results = run(chapters, args.out, parameters)
    failed = [r.chapter for r in results if not r.ok]
    print(f"Executed notebooks and summary.md: {args.out}")
    if failed:
        print(f"vartutor run: {len(failed)} of {len(results)} chapters failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _build(args: argparse.Namespace) -> int:
    from vartutor.course.chapters import find_chapters
    from vartutor.course.execute import build
    from vartutor.paths import course_root

    for chapter in find_chapters(course_root(), args.chapters):
        build(chapter)
        print(f"{chapter.name}: {chapter.ipynb.stat().st_size / 1000:.0f} kB", flush=True)
    return _check(args)


def _check(args: argparse.Namespace) -> int:
    from vartutor.course.chapters import find_chapters
    from vartutor.course.check import check
    from vartutor.paths import course_root

    chapters = find_chapters(course_root(), args.chapters)
    problems = [problem for chapter in chapters for problem in check(chapter)]
    print("\n".join(problems) or f"{len(chapters)} chapters: ok")
    return 1 if problems else 0


def _book(args: argparse.Namespace) -> int:
    from vartutor.course.book import build_book
    from vartutor.paths import course_root

    print(f"Book: {build_book(course_root(), notebooks=args.notebooks, out=args.out, strict=args.strict)}")
    return 0


def _train(args: argparse.Namespace) -> int:
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


def _doctor(_: argparse.Namespace) -> int:
    from vartutor.doctor import FAIL, examine

    findings = list(examine())
    print("\n".join(map(str, findings)))
    return 1 if any(finding.status == FAIL for finding in findings) else 0


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = Parser(prog="vartutor", description="The course on multi-scale super-resolution, and its package.")
    top.add_argument("--version", action="version", version=f"vartutor {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action, summary: str, chapters: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(action=action)
        if chapters:
            sub.add_argument("chapters", nargs="*", metavar="CHAPTER", help="number or name; all if left out")
        return sub

    sub = command("run", _run, "execute chapters with papermill into a folder; exit code 1 if one fails")
    sub.add_argument("--profile", default="cpu", help="smoke, cpu (default) or gpu")
    sub.add_argument("--seed", type=int, default=0, help="a whole number from 0 to 9999 (default 0)")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, mps or auto")
    sub.add_argument("--out", type=Path, default=Path("build/run"), help="folder for the results (default build/run)")
    command("build", _build, "execute chapters into their committed notebooks, then check them")
    command("check", _check, "check the committed notebooks without executing them")
    sub = command("book", _book, "bind the executed notebooks into the HTML book", chapters=False)
    sub.add_argument("--notebooks", type=Path, help="folder of executed notebooks (default: the committed ones)")
    sub.add_argument("--out", type=Path, help="folder for the book (default build/book)")
    sub.add_argument("--strict", action="store_true", help="treat warnings as errors")
    sub = command("train", _train, "train a model on the shipped photos", chapters=False)
    sub.add_argument("what", choices=["tokenizer"])
    sub.add_argument("--profile", default="cpu", help="smoke, cpu (default) or gpu")
    sub.add_argument(
        "--ladder", default="hit", help="hit (default): hierarchical; var: plain, with the same token maps; vq: one map"
    )
    sub.add_argument("--groups", help="token maps instead of the profile's, such as '1,2,4 | 8 | 16'")
    sub.add_argument("--no-overlap", action="store_true", help="hit: every group quantizes its image alone")
    sub.add_argument("--bridge", type=int, help="hit: hidden channels between the groups; 0: bicubic alone")
    sub.add_argument("--perceptual", type=float, default=0.0, help="weight of the perceptual distance (default 0)")
    sub.add_argument("--adversarial", type=float, default=0.0, help="weight of the adversarial loss (default 0)")
    sub.add_argument("--bypass", type=float, default=0.1, help="share of images that skip the quantizer (default 0.1)")
    sub.add_argument("--seed", type=int, default=0, help="a whole number from 0 to 9999 (default 0)")
    sub.add_argument("--steps", type=int, help="instead of the profile's")
    sub.add_argument("--bf16", action="store_true", help="encoder and decoder in bfloat16")
    sub.add_argument("--out", type=Path, default=Path("build/tokenizer"), help="folder for state.pt and log.csv")
    sub.add_argument("--resume", action="store_true", help="go on from the state in --out")
    sub = command("publish", _publish, "put a trained tokenizer among the shipped checkpoints", chapters=False)
    sub.add_argument("run", type=Path, help="folder of the training run")
    sub.add_argument("--profile", default="cpu", help="that the run was trained with (default cpu)")
    sub = command("study", _study, "short training runs that compare tokenizers, into one table", chapters=False)
    sub.add_argument("runs", nargs="*", metavar="RUN", help="names, such as hit or 'one more scale'; all if left out")
    sub.add_argument("--profile", default="cpu", help="smoke, cpu (default) or gpu")
    sub.add_argument("--steps", type=int, default=600, help="of each run (default 600)")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed (default 0)")
    sub.add_argument("--out", type=Path, default=Path("build/study"), help="folder for the results")
    command("doctor", _doctor, "check this machine, one line per question", chapters=False)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; a :class:`UserError` becomes one line on stderr and exit code 2."""
    args = parser().parse_args(argv)
    args.words = sys.argv[1:] if argv is None else argv
    try:
        return args.action(args)
    except UserError as error:
        print(f"vartutor {args.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "vartutor":
            raise
        extra = "book" if args.command == "book" else "notebooks"
        print(f"vartutor {args.command}: needs {error.name}: pip install -e '.[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"vartutor {args.command}: stopped; run it again to go on", file=sys.stderr)
        return 130
