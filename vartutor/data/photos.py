"""The 82 photographs that the course ships, in three splits that never mix."""

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from vartutor.data.images import read_image, to_uint8
from vartutor.errors import UserError
from vartutor.paths import assets, sha256_of

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Photo:
    """One row of ``assets/photos/ATTRIBUTION.csv``."""

    file: str
    split: str
    width: int
    height: int
    licence: str
    author: str
    source: str
    changes: str
    sha256: str

    @property
    def path(self) -> Path:
        return assets() / "photos" / self.file

    @property
    def title(self) -> str:
        """Words a reader can use: ``gc_monuments_hawaMahal.jpg`` -> ``hawa mahal``."""
        subject = re.sub(
            r"^(gc_(clickgame|erase|farm_animals|monuments|world_animals|world_music)|[a-z]+)_", "", self.file
        )
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", subject.rsplit(".", 1)[0]).replace("_", " ").lower()

    def load(self) -> Tensor:
        """(3, H, W) in [-1, 1]."""
        return read_image(self.path)

    def intact(self) -> bool:
        """Whether the file is there with the bytes it was published with."""
        return self.path.is_file() and sha256_of(self.path) == self.sha256


@lru_cache(maxsize=1)
def _table() -> tuple[Photo, ...]:
    with open(assets() / "photos" / "ATTRIBUTION.csv", encoding="utf-8", newline="") as file:
        fields = Photo.__dataclass_fields__
        rows = [{key: row[key] for key in fields} for row in csv.DictReader(file)]
    return tuple(Photo(**{**row, "width": int(row["width"]), "height": int(row["height"])}) for row in rows)


def photos(split: str | None = None) -> list[Photo]:
    """The shipped photographs, all or those of one split (50 train, 12 val, 20 test), in a fixed order.

    Raises:
        UserError: unknown split.
    """
    if split is not None and split not in SPLITS:
        raise UserError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    return [photo for photo in _table() if split in (None, photo.split)]


def find_photo(name: str) -> Photo:
    """A photograph by its file name or a part of it that only one file has, such as ``"lemur"``.

    Raises:
        UserError: none or several match.
    """
    found = [photo for photo in _table() if name == photo.file] or [photo for photo in _table() if name in photo.file]
    if len(found) != 1:
        matches = ", ".join(photo.file for photo in found[:4]) or "none"
        raise UserError(f"photo {name!r} must name exactly one file of assets/photos; matches: {matches}")
    return found[0]


@lru_cache(maxsize=len(SPLITS))
def load_pixels(split: str) -> list[Tensor]:
    """All photographs of a split as (3, H, W) uint8, decoded once per process (55 MB for ``train``)."""
    return [to_uint8(photo.load()) for photo in photos(split)]
