"""The exercises of all chapters, and how far a reader has come."""

import importlib
from collections.abc import Iterator, Mapping

from vartutor.exercises.record import Attempt
from vartutor.exercises.sheet import Sheet

CHAPTERS = tuple(f"ch{number:02}" for number in range(13))


def sheet_of(chapter: str) -> Sheet:
    """The exercises of ``ch04`` or another chapter."""
    return importlib.import_module(f"vartutor.exercises.{chapter}").sheet


def progress(attempts: Mapping[tuple[str, str], Attempt]) -> Iterator[str]:
    """One line per chapter, and the sum: what is solved, what was tried, by the last attempt at each exercise."""
    solved = total = 0
    for chapter in CHAPTERS:
        marks = []
        for name, exercise in sheet_of(chapter).exercises.items():
            attempt = attempts.get((chapter, name))
            mark = "·" if attempt is None else "✓" if attempt.ok else "✗"
            marks.append(f"{mark} {name} {'★' * exercise.stars}")
            solved, total = solved + (mark == "✓"), total + 1
        yield f"{chapter[2:]}  {'   '.join(marks)}"
    yield f"{solved} of {total} solved   (✓ solved, ✗ tried, · not tried)"
