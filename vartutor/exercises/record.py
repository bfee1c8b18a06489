"""What was solved: a line for every attempt at an exercise, in a file beside the notebooks that goes nowhere else."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from vartutor.errors import UserError
from vartutor.paths import course_root

PLACE = "VARTUTOR_RECORD"  # a file to use instead
SEED = "VARTUTOR_CHECK_SEED"  # of the cases that checks draw; grading sets another


@dataclass(frozen=True)
class Attempt:
    """The verdict of one check: ``"ok"``, or what was wrong."""

    chapter: str
    exercise: str
    stars: int
    verdict: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"


def record_file() -> Path:
    """Where attempts go; ``UserError`` without a clone."""
    return Path(os.environ[PLACE]) if os.environ.get(PLACE) else course_root() / "notebooks" / ".progress.jsonl"


def record(attempt: Attempt) -> None:
    """Append a line; where that is not possible, the check goes on without."""
    with suppress(OSError, UserError), open(record_file(), "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(attempt), ensure_ascii=False) + "\n")


def read_attempts(path: Path) -> list[Attempt]:
    """All attempts in order; none if there is no file.

    Raises:
        UserError: a line is not an attempt.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        return [Attempt(**json.loads(line)) for line in lines]
    except (ValueError, TypeError):
        raise UserError(f"{path}: not a record of exercises; delete it to begin anew") from None


def latest(attempts: Iterable[Attempt]) -> dict[tuple[str, str], Attempt]:
    """The last attempt at every exercise, by chapter and name."""
    return {(attempt.chapter, attempt.exercise): attempt for attempt in attempts}
