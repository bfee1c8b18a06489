"""The exercises of all chapters, and how far a reader has come."""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vartutor.exercises.record import Attempt
from vartutor.exercises.sheet import Sheet
from vartutor.train.options import from_plain

CHAPTERS = tuple(f"ch{number:02}" for number in range(13))
MAX_RECORD = 10_000_000  # characters: more is none that checks wrote


def read_attempts(path: Path) -> tuple[list[Attempt], int]:
    """The attempts of a record in order, and how many of its lines are none; nothing if there is no file."""
    if not path.is_file():
        return [], 0
    with open(path, encoding="utf-8", errors="replace") as file:
        found = [_attempt(line) for line in file.read(MAX_RECORD).splitlines()]
    attempts = [attempt for attempt in found if attempt]
    return attempts, len(found) - len(attempts)


def _attempt(line: str) -> Attempt | None:
    try:
        return from_plain(Attempt, json.loads(line), "the record")
    except (ValueError, RecursionError):  # a UserError among them
        return None


def latest(attempts: Iterable[Attempt]) -> dict[tuple[str, str], Attempt]:
    """The last attempt at every exercise, by chapter and name."""
    return {(attempt.chapter, attempt.exercise): attempt for attempt in attempts}


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
