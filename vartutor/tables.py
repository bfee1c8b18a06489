"""Tables as CSV files: one measured value per row."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from vartutor.errors import UserError, first_line
from vartutor.paths import whole


def write_table(path: Path, fields: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write rows under a header, floats with six digits; the old file stays until the new one is complete.

    Raises:
        UserError: the folder is missing or the disk is full.
    """
    try:
        with whole(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(fields)
            writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({first_line(error)})") from None
