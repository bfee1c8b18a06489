"""Short runs that compare tokenizers: the ladders, and the claims and ablations of chapters 04 and 05.

Every run has the profile's sizes and the same number of steps; only what its entry names differs. Ladders are
compared on the validation photos, since one of them is chosen; the rest on the test photos.
"""

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.pairs import Pairs, pyramid
from vartutor.data.photos import load_pixels
from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.paths import assets, make_folder
from vartutor.profiles import Profile
from vartutor.tables import write_table
from vartutor.tokenizer.build import parse_groups
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.multiscale import shrink
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.evaluate import DECODES, restore_pairs
from vartutor.train.runs import Restorer
from vartutor.train.tokenizer import Losses, train_tokenizer

FIELDS = ("run", "seed", "measure", "item", "value")
Row = tuple[str, str, float]  # measure, item, value
Compare = Callable[[Tensor, Tensor, int], dict[str, float]]


@dataclass(frozen=True)
class Run:
    """What distinguishes one run; an empty ladder is the profile's."""

    ladder: str = "hit"
    groups: str = ""
    overlap: bool = True
    bridge: int | None = None
    losses: Losses = field(default_factory=Losses)
    split: str = "test"


RUNS = {
    "hit": Run(),
    "var": Run("var"),
    "alone": Run(groups="1,2,4,4,4 | 1,2,4,4,4,8,8 | 1,2,4,4,4,8,8,16", overlap=False),
    "no bridge": Run(bridge=0),
    "one more scale": Run(groups="1,2,4,4,4 | 8,8 | 16,16"),
    "no revival": Run("var", losses=Losses(revive_every=0)),
    "votes by token": Run("var", losses=Losses(votes="token")),
    **{
        f"ladder {groups}": Run(groups=groups, split="val")
        for groups in (
            "1,2,4 | 8 | 16",
            "1,2,4,4,4 | 8,8 | 16",
            "1,2,4,4,4,4 | 8,8 | 16",
            "1,2,4,4,4,4,4,4 | 8,8 | 16",
            "1,2,3,4 | 5,6,8 | 10,13,16",
            "1,2,4,4,4,4 | 8,8,8 | 16,16",
        )
    },
}


def decode_small(model: MultiScaleTokenizer, f_hat: Tensor, size: int, image_size: int) -> dict[str, Tensor]:
    """Two ways to get a (B, 3, size, size) image out of a plain tokenizer's unfinished f_hat.

    Returns:
        ``decoded first`` and ``shrunk first``.
    """
    side = f_hat.shape[-1] * size // image_size
    return {
        "decoded first": pyramid(model.decode(f_hat), (size, image_size))[size],
        "shrunk first": model.decode(shrink(f_hat, (side, side))),
    }


@torch.no_grad()
def measure(model: MultiScaleTokenizer, profile: Profile, split: str) -> Iterator[Row]:
    """(measure, item, value): ``psnr S`` of every photo in dB, ``used`` and ``perplexity`` of every scale."""
    x, files = eval_crops(split, profile.image_size, profile.eval_crops)
    target, indices = pyramid(x, profile.scales), model.tokenize(x)
    if isinstance(model, HierarchicalTokenizer):
        images = {f"psnr {s}": (image, target[s]) for s, image in model.decode_scales(indices).items()}
    else:
        latents, largest = model.latents(indices), max(profile.scales)
        images = {f"psnr {largest}": (model.decode(latents[-1]), x)}
        ends = accumulate(map(len, profile.groups[:-1]))
        for s, end in zip(profile.scales, ends, strict=False):
            size = profile.image_size * s // largest
            for way, image in decode_small(model, latents[end - 1], size, profile.image_size).items():
                images[f"psnr {s} {way}"] = image, target[s]
    for name, (image, clean) in images.items():
        scores = psnr(image, clean, color="rgb").view(-1, profile.eval_crops).mean(1).tolist()
        yield from ((name, file, score) for file, score in zip(files[:: profile.eval_crops], scores, strict=True))
    yield from _codes(model, profile)


def _codes(model: MultiScaleTokenizer, profile: Profile, batches: int = 64) -> Iterator[Row]:
    crops = RandomCrops(load_pixels("train"), profile.image_size, 16, seed=1)
    seen = [torch.cat(maps) for maps in zip(*(model.tokenize(crops.batch()) for _ in range(batches)), strict=True)]
    yield "used", "all", len(torch.cat([idx.flatten() for idx in seen]).unique())
    yield "tokens", "all", model.quantizer.tokens
    for k, idx in enumerate(seen):
        yield "used", str(k), len(idx.unique())
    groups = getattr(model.quantizer, "groups", ())
    if len(groups) > 1 and not model.quantizer.overlap:  # the same map, made from the smallest and the largest image
        last = sum(map(len, groups[:-1]))
        for k, side in enumerate(groups[0]):
            yield "agreement", f"{k}: {side}", (seen[k] == seen[last + k]).float().mean().item()


def run_study(names: Sequence[str], profile: Profile, out: Path, *, steps: int, seeds: Sequence[int]) -> Path:
    """Train and measure every named tokenizer with every seed; see :func:`collect`."""

    def work(name: str, seed: int, folder: Path) -> list[Row]:
        run = RUNS[name]
        groups = parse_groups(run.groups) if run.groups else None
        trainer = train_tokenizer(
            profile,
            folder,
            ladder=run.ladder,
            groups=groups,
            overlap=run.overlap,
            bridge=run.bridge,
            seed=seed,
            steps=steps,
            losses=run.losses,
            bf16=True,
            resume=(folder / "state.pt").is_file(),
        )
        return [*measure(trainer.averaged, profile, run.split), ("seconds per step", "", trainer.seconds / steps)]

    return collect(choose(names, RUNS), seeds, out, work)


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


def restored_rows(restorer: Restorer, pairs: Pairs, per_photo: int, seed: int, compare: Compare) -> list[Row]:
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


def collect(names: Sequence[str], seeds: Sequence[int], out: Path, work: Callable[[str, int, Path], list[Row]]) -> Path:
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


def load_study(study: Path | str = "tokenizers") -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """{(run, measure): {seed: {item: value}}} of a ``study.csv``, or of a shipped one by its name."""
    path, found = study if isinstance(study, Path) else assets() / "studies" / f"{study}.csv", {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            seeds = found.setdefault((row["run"], row["measure"]), {})
            seeds.setdefault(int(row["seed"]), {})[row["item"]] = float(row["value"])
    return found
