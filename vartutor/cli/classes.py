"""Commands for readers and classes: progress, edition, grade."""

import argparse
import sys
from pathlib import Path

from vartutor.cli.parser import Commands, add_seed
from vartutor.errors import one_line


def _progress(_: argparse.Namespace) -> int:
    from vartutor.course.progress import latest, progress, read_attempts
    from vartutor.exercises.record import record_file

    attempts, others = read_attempts(record_file())
    print("\n".join(progress(latest(attempts))))
    if others:
        print(f"vartutor progress: left out {others} lines of {record_file()}: no attempts", file=sys.stderr)
    return 0


def _edition(args: argparse.Namespace) -> int:
    from vartutor.course.chapters import find_chapters
    from vartutor.course.edition import write_edition
    from vartutor.paths import course_root

    paths = write_edition(find_chapters(course_root(), args.chapters), args.out)
    print(f"{len(paths)} notebooks without solutions: {args.out}")
    return 0


def _grade(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed
    from vartutor.course.grade import Limits, grade

    print("Notebooks are programs: grade in a container, or as a user without rights.", flush=True)
    limits = Limits(args.minutes, args.memory)
    grade(args.folder, args.out, check_seed(args.seed), limits, lambda line: print(one_line(line), flush=True))
    print(f"grades.csv, and a page for every student: {args.out}")
    return 0


def add(commands: Commands) -> None:
    """Add these commands."""
    commands.add("progress", _progress, "which exercises are solved; read from a file beside the notebooks")
    edition = commands.add("edition", _edition, "notebooks to hand out: no solutions, empty stubs")
    edition.add_argument("chapters", nargs="*", metavar="CHAPTER", help="number or name; all if left out")
    edition.add_argument(
        "--student", action="store_true", required=True, help="for students; there is no other edition"
    )
    edition.add_argument("--out", type=Path, required=True, help="folder for the notebooks")
    grade = commands.add("grade", _grade, "run the notebooks that students handed in, and grade their exercises")
    grade.add_argument("folder", type=Path, metavar="FOLDER", help="a folder for each student, with notebooks")
    grade.add_argument(
        "--out", type=Path, default=Path("build/grades"), help="folder for results (default build/grades)"
    )
    grade.add_argument("--minutes", type=float, default=10.0, help="for one notebook at most (default 10)")
    grade.add_argument("--memory", type=float, default=6.0, help="gigabytes for one notebook at most (default 6)")
    add_seed(grade)
