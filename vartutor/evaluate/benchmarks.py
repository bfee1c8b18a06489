"""The test sets of published tables, in the folders they come in: DIV2K-Val, RealSR and DRealSR at ×4.

The protocol is StableSR's (Wang et al., 2024), which VARSR and H-VAR follow: crops of 512 pixels and their degraded
versions of 128; for DIV2K-Val 3,000 at random, 30 of each photo, and for the real photos one from the middle of each.
Which 3,000 the published tables used is known only from StableSR's own copy; where that is given, it is read as it is.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vartutor.data.degradation import Degradation, degrade
from vartutor.data.images import read_image
from vartutor.data.pairs import pyramid
from vartutor.data.presets import VARSR
from vartutor.errors import UserError, pick

SIZE, SCALE, CROPS = 512, 4, 3000
# Folders of degraded and clean photos of the same names, such as StableSR's copies of all three sets.
TWINS = (("lq", "gt"), ("test_LR", "test_HR"))


@dataclass(frozen=True)
class Sample:
    """A photo, or several crops of it: ``lr`` (B, 3, h, w) and ``hr[s]`` (B, 3, s h, s w) in [-1, 1]."""

    name: str
    lr: Tensor
    hr: dict[int, Tensor]


class Benchmark:
    """Photos of a test set, one by one, each with its crops.

    Args:
        name: one of ``LAYOUTS``.
        folder: with the set, in its own layout or in StableSR's.
        count: crops in all, for DIV2K-Val from its clean photos.
        preset: how those are degraded.

    Raises:
        UserError: an unknown name, no such folder, or one in another layout.
    """

    def __init__(self, name: str, folder: Path, *, count: int = CROPS, preset: Degradation = VARSR):
        layout = pick(name, LAYOUTS, "benchmark")
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        self.name, self.preset = name, preset
        found = sorted(_twins(folder)) or sorted(layout(folder))
        if not found:
            raise UserError(f"{folder}: not {name} as it comes: {EXPECTED[name]}, or folders lq and gt")
        self.photos: list[tuple[str, Path | None, Path]] = found
        # The first photos give one crop more where the number does not divide.
        self.crops = [(count + len(found) - 1 - i) // len(found) for i in range(len(found))]

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, i: int) -> Sample:
        """The crops of photo i.

        Raises:
            UserError: an unreadable photo, one that is too small, or a pair whose sizes do not fit.
        """
        name, degraded, clean = self.photos[i]
        name = printable(Path(name))
        hr = read_image(clean)
        if degraded is None:
            hr = _random_crops(hr, self.crops[i], name)
            lr = degrade(hr, self.preset, seeds=[zlib.crc32(f"{name} {k}".encode()) for k in range(len(hr))])
        else:
            lr, hr = _middle(read_image(degraded), hr, clean)
        return Sample(name, lr, pyramid(hr))


def _random_crops(photo: Tensor, count: int, name: str) -> Tensor:
    """Windows that depend on the photo's name alone: (count, 3, 512, 512)."""
    height, width = photo.shape[-2:]
    if min(height, width) < SIZE:
        raise UserError(f"{name}: {width} × {height} pixels, too small for crops of {SIZE}")
    draws = torch.rand(count, 2, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))).tolist()
    corners = [(int(y * (height - SIZE + 1)), int(x * (width - SIZE + 1))) for y, x in draws]
    return torch.stack([photo[:, top : top + SIZE, left : left + SIZE] for top, left in corners])


def _middle(lr: Tensor, hr: Tensor, path: Path) -> tuple[Tensor, Tensor]:
    """The middle of both, so that they show the same: (1, 3, 128, 128) and (1, 3, 512, 512)."""
    height, width = lr.shape[-2:]
    if tuple(hr.shape[-2:]) != (height * SCALE, width * SCALE):
        raise UserError(f"{path}: {tuple(hr.shape[-2:])} pixels, not {SCALE} times the {height, width} of its partner")
    side = SIZE // SCALE
    if min(height, width) < side:
        raise UserError(f"{path}: too small for crops of {SIZE}")
    top, left = (height - side) // 2, (width - side) // 2
    clean = hr[:, top * SCALE : top * SCALE + SIZE, left * SCALE : left * SCALE + SIZE]
    return lr[None, :, top : top + side, left : left + side], clean[None]


def printable(path: Path) -> str:
    """A path in UTF-8, whatever bytes the system has for it."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


Found = Iterator[tuple[str, Path | None, Path]]


def _twins(folder: Path) -> Found:
    for degraded, clean in TWINS:
        for path in (folder / clean).glob("*.png"):
            if (partner := folder / degraded / path.name).is_file():
                yield path.stem, partner, path


def _div2k(folder: Path) -> Found:
    for path in folder.rglob("*.png"):
        if path.parent.name in (folder.name, "DIV2K_valid_HR"):
            yield path.stem, None, path


def _realsr(folder: Path) -> Found:
    for path in folder.rglob("Test/4/*_HR.png"):
        partner = path.with_name(path.name.replace("_HR.png", "_LR4.png"))
        if partner.is_file():
            yield path.stem.removesuffix("_HR"), partner, path


def _drealsr(folder: Path) -> Found:
    for path in folder.rglob("test_HR/*_x4.png"):
        partner = path.parent.with_name("test_LR") / path.name.replace("_x4.png", "_x1.png")
        if partner.is_file():
            yield path.stem.removesuffix("_x4"), partner, path


LAYOUTS = {"div2k-val": _div2k, "realsr": _realsr, "drealsr": _drealsr}
EXPECTED = {
    "div2k-val": "DIV2K_valid_HR/0801.png and on",
    "realsr": "Canon/Test/4/Canon_001_HR.png with Canon_001_LR4.png, likewise Nikon",
    "drealsr": "test_HR/NAME_x4.png with test_LR/NAME_x1.png",
}
