"""How long chapters run and how much memory they take: measured once, said alike in headers, README and book."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vartutor.course.chapters import find_chapters
from vartutor.course.execute import Result
from vartutor.paths import whole
from vartutor.tables import read_table, write_table

TABLE = Path("assets", "studies", "times.csv")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Time:
    """Seconds and megabytes of one chapter at the default profile."""

    seconds: float
    peak_mb: float

    @property
    def minutes(self) -> int:
        """To the nearest one; 0 for less than three quarters of one."""
        return 0 if self.seconds < 45 else max(1, round(self.seconds / 60))

    @property
    def words(self) -> str:
        """The time, as README says it."""
        if self.minutes < 2:
            return "a minute" if self.minutes else "under a minute"
        return f"{NUMBERS[self.minutes] if self.minutes < len(NUMBERS) else self.minutes} minutes"

    @property
    def short(self) -> str:
        """The same with digits."""
        return f"about {self.minutes} min" if self.minutes else "under 1 min"

    @property
    def memory(self) -> str:
        """In GB."""
        return f"{self.peak_mb / 1000:.1f} GB"


def read_times(root: Path) -> dict[str, Time]:
    """The measured ones, by chapter.

    Raises:
        UserError: no such table, or another one.
    """
    return dict(
        read_table(root / TABLE, lambda r: (r["chapter"], Time(float(r["seconds"]), float(r["peak_mb"]))), "times")
    )


def keep_times(root: Path, results: Iterable[Result]) -> None:
    """Take over what a run measured, into the table and into every text; chapters that failed keep their old times."""
    times = read_times(root) | {r.chapter: Time(r.seconds, r.peak_mb) for r in results if r.ok}
    rows = [(name, t.seconds, t.peak_mb) for name, t in sorted(times.items())]
    write_table(root / TABLE, ("chapter", "seconds", "peak_mb"), rows)
    for path, text in with_times(root, times).items():
        with whole(path) as part:
            part.write_text(text, encoding="utf-8")


def with_times(root: Path, times: dict[str, Time]) -> dict[Path, str]:
    """Every text that names times, as it should be."""
    texts = {path: path.read_text(encoding="utf-8") for path in (root / "README.md", *(root / "book").glob("*.md"))}
    for chapter in find_chapters(root):
        name, time = chapter.name, times[chapter.name]
        header = f"| {'about ' * bool(time.minutes)}{time.words} and {time.memory} to run, "
        for path in (chapter.py, chapter.ipynb):
            texts[path] = re.sub(r"\| [\w ,.]* to run, ", header, path.read_text(encoding="utf-8"), count=1)
        for path in (root / "README.md", root / "book" / "index.md"):
            row = rf"^(\| \[{name[:2]} · .*\| )[^|]*( \|)$"
            texts[path] = re.sub(row, rf"\g<1>{time.words}\2", texts[path], flags=re.M)
        path = root / "book" / "instructors.md"
        row = rf"^(\| {name[:2]} · [^|]*\|) (?:under|about) [^|]*\| [^|]* \|"
        texts[path] = re.sub(row, rf"\1 {time.short} | {time.memory} |", texts[path], flags=re.M)
    return texts
