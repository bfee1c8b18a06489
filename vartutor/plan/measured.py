"""The table of what a GPU did, beside the plan: written, read, and judged."""

from dataclasses import astuple, dataclass, fields
from pathlib import Path

from vartutor.paths import assets
from vartutor.tables import read_table, write_table

GOALS = {("transformer", "mfu"): 0.35, ("transformer", "photos/s"): 50.0, ("tokenizer", "mfu"): 0.25}  # on one H100
AS_PLANNED = "as planned"


@dataclass(frozen=True)
class GpuRow:
    """``value`` of a ``measure``; ``planned`` is what the plan says; of a difference, what is allowed."""

    run: str
    variant: str
    measure: str
    value: float
    planned: float
    card: str
    date: str


def write_measured(path: Path, rows: list[GpuRow]) -> None:
    """As CSV; see :func:`vartutor.tables.write_table`."""
    write_table(path, [field.name for field in fields(GpuRow)], map(astuple, rows))


def read_measured(path: Path | None = None) -> list[GpuRow]:
    """Back from :func:`write_measured`; by default what the chapters show; nothing where nobody measured.

    Raises:
        UserError: another table.
    """
    path = path or assets() / "studies" / "gpu_check.csv"
    if not path.is_file():
        return []
    return read_table(
        path, lambda r: GpuRow(**r | {key: float(r[key]) for key in ("value", "planned")}), "measurements"
    )


def verdict(rows: list[GpuRow]) -> list[str]:
    """What is wrong, and which goals for one H100 are reached."""
    lines = [f"WRONG: {r.run}, {r.variant}: {r.value:.2g}, allowed are {r.planned:.2g}"
             for r in rows if r.measure == "difference" and not r.value <= r.planned]  # fmt: skip
    found = {(r.run, r.measure): r.value for r in rows if r.variant == AS_PLANNED}
    for (run, what), goal in GOALS.items():
        if (value := found.get((run, what))) is not None:
            lines.append(
                f"{run}: {what} {value:.3g}, goal on one H100 {goal:g}: {'reached' if value >= goal else 'missed'}"
            )
    return lines
