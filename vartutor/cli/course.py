"""Commands for the notebooks and the machine: run, build, check, book, doctor."""

import argparse
import sys
from pathlib import Path

from vartutor.cli.parser import Commands, add_profile, add_seed
from vartutor.errors import UserError


def _run(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed
    from vartutor.course.chapters import find_chapters
    from vartutor.course.execute import run
    from vartutor.devices import find_device
    from vartutor.paths import course_root
    from vartutor.profiles import get_profile

    parameters = {"PROFILE": get_profile(args.profile).name, "SEED": check_seed(args.seed), "DEVICE": args.device}
    find_device(args.device)
    if args.keep_times and parameters != {"PROFILE": "cpu", "SEED": 0, "DEVICE": "cpu"}:
        raise UserError("--keep-times is for the default profile, seed and device")
    chapters = find_chapters(course_root(), args.chapters)
    results = run(chapters, args.out, parameters)
    failed = [r.chapter for r in results if not r.ok]
    if args.keep_times:
        from vartutor.course.times import keep_times

        keep_times(course_root(), results)
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

    options = {"notebooks": args.notebooks, "out": args.out, "strict": args.strict, "repository": args.repository}
    print(f"Book: {build_book(course_root(), **options)}")
    return 0


def _slides(args: argparse.Namespace) -> int:
    from vartutor.course.chapters import find_chapters
    from vartutor.course.slides import write_slides
    from vartutor.paths import course_root

    for path in write_slides(find_chapters(course_root(), args.chapters), args.out, course_root()):
        print(f"{path.stem}: {path}")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from vartutor.doctor import FAIL, examine

    findings = list(examine())
    print("\n".join(map(str, findings)))
    return 1 if any(finding.status == FAIL for finding in findings) else 0


def add(commands: Commands) -> None:
    """Add these commands."""
    run = commands.add("run", _run, "execute chapters with papermill into a folder; exit code 1 if one fails")
    add_profile(run)
    add_seed(run)
    run.add_argument("--device", default="cpu", help="cpu (default), cuda, mps or auto")
    run.add_argument("--out", type=Path, default=Path("build/run"), help="folder for the results (default build/run)")
    run.add_argument("--keep-times", action="store_true", help="write time and memory into headers, README and book")
    build = commands.add("build", _build, "execute chapters into their committed notebooks, then check them")
    check = commands.add("check", _check, "check the committed notebooks without executing them")
    slides = commands.add("slides", _slides, "make slides of the committed chapters, to show in a browser")
    slides.add_argument("--out", type=Path, default=Path("build/slides"), help="folder for them (default build/slides)")
    for sub in (run, build, check, slides):
        sub.add_argument("chapters", nargs="*", metavar="CHAPTER", help="number or name; all if left out")
    book = commands.add("book", _book, "bind the executed notebooks into the HTML book")
    book.add_argument("--notebooks", type=Path, help="folder of executed notebooks (default: the committed ones)")
    book.add_argument("--repository", default="", metavar="URL", help="public address: chapters get a Binder button")
    book.add_argument("--out", type=Path, help="folder for the book (default build/book)")
    book.add_argument("--strict", action="store_true", help="treat warnings as errors")
    commands.add("doctor", _doctor, "check this machine, one line per question")
