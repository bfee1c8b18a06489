"""Results as files: every value in a CSV, means and differences in Markdown."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vartutor.evaluate.budget import BUDGET_MEASURES
from vartutor.evaluate.extras import EXTRA_MEASURES
from vartutor.evaluate.measures import MEASURES, Measure
from vartutor.evaluate.table import Row, Summary, compare, summarise
from vartutor.tables import write_table

ALL_MEASURES = MEASURES | EXTRA_MEASURES
READING = (
    "Each cell is a mean over photos with its 95 % bootstrap interval over photos; ± is the standard deviation over "
    "sampling seeds. `vartutor/evaluate/measures.py` defines the measures."
)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A CSV file with the fields of :class:`Row`."""
    write_table(path, Row._fields, rows)


def write_results(out: Path, rows: Sequence[Row], origin: Sequence[str], reference: str) -> list[Summary]:
    """Write ``results.csv``, and ``summary.md`` with means and with differences from the reference.

    Args:
        origin: lines that say how the results came about.

    Returns:
        the differences.

    Raises:
        UserError: the reference was not measured.
    """
    differences = compare(rows, reference)
    parts = ["# Results", *origin, READING, *_left_out(rows), markdown(summarise(rows), ALL_MEASURES)]
    if differences:
        how = (
            "Restorer minus reference on the same photo, then the mean over photos: an interval without 0 is a finding."
        )
        parts += [f"## Differences from {reference}", how, markdown(differences, ALL_MEASURES, signed=True)]
    write_rows(out / "results.csv", rows)
    (out / "summary.md").write_text("\n\n".join(parts), encoding="utf-8", errors="backslashreplace")
    return differences


def _left_out(rows: Sequence[Row]) -> list[str]:
    """How many values no mean can hold: of pictures that are as the clean photo is, such as black ones."""
    counts = Counter((row.restorer, ALL_MEASURES[row.measure].title) for row in rows if math.isinf(row.value))
    lines = [f"{restorer}, {title}: {count}" for (restorer, title), count in counts.items()]
    return [f"Infinite values are left out, here and in differences: {'; '.join(lines)}."] if lines else []


def write_budget(out: Path, rows: Sequence[Row], origin: Sequence[str]) -> None:
    """Write ``budget.csv`` and ``budget.md``, the error budget of a transformer."""
    write_rows(out / "budget.csv", rows)
    parts = ["# Error budget", *origin, READING, markdown(summarise(rows), BUDGET_MEASURES)]
    (out / "budget.md").write_text("\n\n".join(parts), encoding="utf-8", errors="backslashreplace")


def _cell(summary: Summary | None, digits: int, signed: bool) -> str:
    if summary is None:
        return ""
    sign = "+" if signed else ""
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in summary.interval)
    return f"{mean} [{low}, {high}]" + (f" ±{summary.spread:.{digits}f}" if summary.spread is not None else "")


def markdown(summaries: Sequence[Summary], measures: dict[str, Measure] = MEASURES, *, signed: bool = False) -> str:
    """A table per measure: restorers down, scales across; ``signed`` for differences."""
    parts = []
    for name, (title, digits, better) in measures.items():
        cells = {(s.restorer, s.scale): s for s in summaries if s.measure == name}
        if not cells:
            continue
        restorers, scales = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
        counts = {s.photos for s in cells.values()}
        photos = f"{min(counts)} to {max(counts)} photos" if len(counts) > 1 else f"{counts.pop()} photos"
        header = [f"×{scale}" if scale.isdigit() else scale for scale in scales]
        parts += [f"**{title}** ({better}; {photos})", ""]
        parts += [f"| | {' | '.join(header)} |", "|---" * (1 + len(scales)) + "|"]
        for restorer in restorers:
            row = (_cell(cells.get((restorer, scale)), digits, signed) for scale in scales)
            parts.append(f"| {restorer} | {' | '.join(row)} |")
        parts.append("")
    return "\n".join(parts)
