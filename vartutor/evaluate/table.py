"""One measured value per row; means with their intervals; differences from a reference, photo by photo."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vartutor.errors import UserError
from vartutor.metrics import Interval, bootstrap
from vartutor.tables import Study, read_table


class Row(NamedTuple):
    """``scale`` is an image scale, or in an error budget a token map; ``seed`` is 0 where nothing is drawn."""

    restorer: str
    seed: int
    photo: str
    scale: str
    measure: str
    value: float


@dataclass(frozen=True)
class Summary:
    """A mean over photos of their means over seeds, with its 95 % interval over photos.

    ``spread`` is the standard deviation over seeds of the mean over photos; None with a single seed.
    """

    restorer: str
    scale: str
    measure: str
    interval: Interval
    photos: int
    spread: float | None = None


def read_rows(path: Path) -> list[Row]:
    """Back from a CSV file with the fields of :class:`Row`.

    Raises:
        UserError: missing, or another table.
    """

    def make(r: dict[str, str]) -> Row:
        return Row(r["restorer"], int(r["seed"]), r["photo"], r["scale"], r["measure"], float(r["value"]))

    return read_table(path, make, "results")


def study_rows(study: Study, way: str = "sampled") -> list[Row]:
    """What a study of transformers or preferences restored in one way, its runs as restorers.

    Args:
        study: from :func:`vartutor.tables.load_study`.
        way: ``sampled`` or ``expected`` codes.
    """
    rows = []
    for (run, name), seeds in study.items():
        measure, *where = name.split()
        if where[1:] == [way]:
            for seed, photos in seeds.items():
                rows += [Row(run, seed, photo, where[0], measure, value) for photo, value in photos.items()]
    return rows


Key = tuple[str, str, str]  # restorer, scale, measure


def _gather(rows: Sequence[Row]) -> dict[Key, dict[int, dict[str, float]]]:
    """{key: {seed: {photo: value}}}, in the order of the rows; without what is infinite or could not be measured."""
    found = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if math.isfinite(row.value):
            found[row.restorer, row.scale, row.measure][row.seed][row.photo] = row.value
    return found


def _photo_means(seeds: dict[int, dict[str, float]]) -> dict[str, float]:
    values = defaultdict(list)
    for photos in seeds.values():
        for photo, value in photos.items():
            values[photo].append(value)
    return {photo: statistics.fmean(drawn) for photo, drawn in values.items()}


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Every restorer's means."""
    found = []
    for key, seeds in _gather(rows).items():
        means = _photo_means(seeds)
        spread = None
        if len(seeds) > 1:
            spread = statistics.stdev(statistics.fmean(photos.values()) for photos in seeds.values())
        found.append(Summary(*key, bootstrap(list(means.values())), len(means), spread))
    return found


def compare(rows: Sequence[Row], reference: str) -> list[Summary]:
    """Means of the differences from a reference on the same photos: a paired bootstrap, which the photos' own
    differences do not blur.

    Raises:
        UserError: the reference was not measured.
    """
    gathered = _gather(rows)
    names = list(dict.fromkeys(restorer for restorer, *_ in gathered))
    if reference not in names:
        raise UserError(f"no restorer {reference!r} to compare with: choose one of {', '.join(names) or 'none'}")
    found = []
    for (restorer, scale, measure), seeds in gathered.items():
        if restorer != reference and (reference, scale, measure) in gathered:
            means, theirs = _photo_means(seeds), _photo_means(gathered[reference, scale, measure])
            differences = [value - theirs[photo] for photo, value in means.items() if photo in theirs]
            if differences:
                found.append(Summary(restorer, scale, measure, bootstrap(differences), len(differences)))
    return found
