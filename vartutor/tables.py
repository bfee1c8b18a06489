"""Tables as CSV files: one measured value per row."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from vartutor.errors import UserError, first_line
from vartutor.paths import assets, whole

Study = dict[tuple[str, str], dict[int, dict[str, float]]]  # {(run, measure): {seed: {item: value}}}


def write_table(path: Path, fields: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write rows under a header, floats with six digits; the old file stays until the new one is complete.

    Raises:
        UserError: the folder is missing or the disk is full.
    """
    try:
        with whole(path) as part, open(part, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(fields)
            writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({first_line(error)})") from None


def read_table(path: Path, make: Callable[[dict[str, str]], Any], what: str) -> list:
    """What is made of each row, {field: text}; ``UserError`` where there is no file, or another table than ``what``."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [make(row) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a table of {what} ({type(error).__name__})") from None


def load_study(study: Path | str = "tokenizers") -> Study:
    """A ``study.csv`` with the columns run, seed, measure, item and value, or a shipped one by its name.

    Raises:
        UserError: missing, or another table.
    """
    path = study if isinstance(study, Path) else assets() / "studies" / f"{study}.csv"
    found: Study = {}
    for run, measure, seed, item, value in read_table(
        path, lambda r: (r["run"], r["measure"], int(r["seed"]), r["item"], float(r["value"])), "a study"
    ):
        found.setdefault((run, measure), {}).setdefault(seed, {})[item] = value
    return found
