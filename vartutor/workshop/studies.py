"""Short runs that compare: what they all need. Every run has a name, a folder, and is measured into one table."""

import csv
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vartutor.data.pairs import Pairs
from vartutor.errors import UserError
from vartutor.paths import make_folder
from vartutor.profiles import Profile
from vartutor.tables import write_table
from vartutor.train.kinds import KINDS, train
from vartutor.train.trainer import Trainer
from vartutor.weights import Restorer
from vartutor.weights.files import STATE
from vartutor.workshop.scores import DECODES, restore_pairs

FIELDS = ("run", "seed", "measure", "item", "value")
Measured = tuple[str, str, float]  # measure, item, value
Compare = Callable[[Tensor, Tensor, int], dict[str, float]]


def trained(
    kind: str, profile: Profile, folder: Path, given: dict[str, Any] | None = None, **told
) -> tuple[Trainer, list[Measured]]:
    """A run of a study, from its beginning or from where it was interrupted; and what it took.

    Args:
        given: models, as for :func:`train`.
        **told: settings.
    """
    run = KINDS[kind].settings.of(profile, bf16=True, validate_every=0, **told)
    trainer = train(kind, run, folder, resume=(folder / STATE).is_file(), **given or {})
    return trainer, [("steps", "", trainer.step), ("seconds per step", "", trainer.seconds / trainer.step)]


def photo_rows(name: str, files: Sequence[str], values: Tensor, per_photo: int) -> list[Measured]:
    """A measure by photo, from the values (N,) of its crops and the file (N,) that each is of."""
    means = values.view(-1, per_photo).mean(1).tolist()
    return [(name, *pair) for pair in zip(files[::per_photo], means, strict=True)]


def choose(names: Sequence[str], runs: Collection[str]) -> Sequence[str]:
    """The named runs of a study, or all of them.

    Raises:
        UserError: an unknown run.
    """
    if unknown := [name for name in names if name not in runs]:
        raise UserError(f"no run {unknown[0]!r}: choose from {'; '.join(runs)}")
    return names or list(runs)


def claim(path: Path, record: str) -> None:
    """Write what all runs of a folder have in common, for only what began alike may be compared.

    Raises:
        UserError: there are runs already that have something else in common.
    """
    make_folder(path.parent)
    if path.is_file() and path.read_text(encoding="utf-8") != record + "\n":
        raise UserError(f"{path.parent}: holds runs that began in another way, see {path.name}; choose another --out")
    path.write_text(record + "\n", encoding="utf-8")


def restored_rows(restorer: Restorer, pairs: Pairs, per_photo: int, seed: int, compare: Compare) -> list[Measured]:
    """Per photo: ``MEASURE SCALE WAY``, restored from sampled and from expected codes.

    Args:
        per_photo: crops of each photo.
        compare: what is measured of a photo, such as :func:`vartutor.evaluate.measures.measure`: called with its
            crops, the clean ones, and the scale.
    """
    rows = []
    for way, options in DECODES.items():
        for s, image in restore_pairs(restorer, pairs, seed=seed, **options).items():
            photos = pairs.files[::per_photo], image.split(per_photo), pairs.hr[s].split(per_photo)
            for file, ours, clean in zip(*photos, strict=True):
                rows += [(f"{name} {s} {way}", file, value) for name, value in compare(ours, clean, s).items()]
    return rows


def collect(
    names: Sequence[str], seeds: Sequence[int], out: Path, work: Callable[[str, int, Path], list[Measured]]
) -> Path:
    """Do every named run with every seed; what ``out`` holds already is not done again.

    Args:
        work: gets the run's name, its seed and its folder, and may find there what an interrupted one left.

    Returns:
        ``out/study.csv``, which gathers all that ``out`` holds: run, seed, measure, item, value.
    """
    make_folder(out)
    for name in names:
        for seed in seeds:
            folder = out / f"{name.replace(' ', '').replace('|', '-')}_{seed}"
            if not (folder / "rows.csv").is_file():
                rows = [(name, seed, *row) for row in work(name, seed, folder)]
                make_folder(folder)
                write_table(folder / "rows.csv", FIELDS, rows)
    parts = [list(csv.reader(path.open(encoding="utf-8")))[1:] for path in sorted(out.glob("*/rows.csv"))]
    write_table(out / "study.csv", FIELDS, [row for part in parts for row in part])
    return out / "study.csv"
