"""What restorers are measured on: clean photos with their degraded versions, by fixed seeds."""

import zlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from vartutor.data.degradation import Degradation, degrade
from vartutor.data.folders import PhotoFolder
from vartutor.data.images import read_image
from vartutor.data.pairs import eval_pairs, pyramid
from vartutor.data.photos import photos
from vartutor.evaluate.benchmarks import Sample, printable


def crops(preset: Degradation, split: str = "test", per_photo: int = 3) -> list[Sample]:
    """The fixed crops of :func:`vartutor.data.pairs.eval_pairs`, photo by photo."""
    pairs = eval_pairs(preset, split, per_photo=per_photo)
    hr = {s: images.split(per_photo) for s, images in pairs.hr.items()}
    found = enumerate(zip(pairs.files[::per_photo], pairs.lr.split(per_photo), strict=True))
    return [Sample(file, lr, {s: parts[i] for s, parts in hr.items()}) for i, (file, lr) in found]


class WholePhotos:
    """Whole photos, read and degraded when their turn comes; sizes may differ.

    The middle is taken of a photo larger than ``largest``, and of one whose sides are no multiples of the factor.

    Args:
        sources: name -> function that reads the clean photo, (3, H, W) in [-1, 1].
        seed: a photo is degraded with a seed made of this and its name.
    """

    def __init__(
        self, sources: dict[str, Callable[[], Tensor]], preset: Degradation, *, largest: int = 1024, seed: int = 0
    ):
        self.sources, self.preset, self.largest, self.seed = list(sources.items()), preset, largest, seed

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, i: int) -> Sample:
        name, read = self.sources[i]
        clean = _middle(read(), self.largest, self.preset.scale)[None]
        seeds = [zlib.crc32(f"{self.seed} {name}".encode())]
        return Sample(name, degrade(clean, self.preset, seeds=seeds), pyramid(clean))


def _middle(x: Tensor, largest: int, multiple: int) -> Tensor:
    sides = [min(side, largest) // multiple * multiple for side in x.shape[-2:]]
    top, left = ((side - kept) // 2 for side, kept in zip(x.shape[-2:], sides, strict=True))
    return x[:, top : top + sides[0], left : left + sides[1]]


def split_photos(preset: Degradation, split: str = "test", **options) -> WholePhotos:
    """The shipped photos of a split, whole; options as for :class:`WholePhotos`."""
    return WholePhotos({photo.file: photo.load for photo in photos(split)}, preset, **options)


def own_photos(folder: Path, preset: Degradation, **options) -> WholePhotos:
    """Clean photos of a folder of your own; options as for :class:`WholePhotos`.

    Raises:
        UserError: no such folder, or no usable photo in it.
    """
    sources = {
        printable(file.relative_to(folder)): lambda file=file: read_image(file) for file in PhotoFolder(folder).files
    }
    return WholePhotos(sources, preset, **options)
