"""Cut a photo into overlapping tiles, and blend what comes back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.images import to_float


@dataclass(frozen=True)
class Tile:
    """A square of the photo, by its corner in pixels; ``row`` and ``column`` count tiles."""

    row: int
    column: int
    top: int
    left: int


def starts(length: int, tile: int, stride: int) -> list[int]:
    """Where tiles begin so that they cover ``length``; the last one ends with it."""
    return [*range(0, max(1, length - tile), stride), max(0, length - tile)] if length > tile else [0]


def cut(height: int, width: int, tile: int, stride: int) -> list[Tile]:
    """All tiles of a photo, row by row."""
    tops, lefts = starts(height, tile, stride), starts(width, tile, stride)
    return [Tile(r, c, top, left) for r, top in enumerate(tops) for c, left in enumerate(lefts)]


def padded(sides: Sequence[int], least: int, multiple: int) -> tuple[int, ...]:
    """Sides of at least ``least``, multiples of ``multiple``."""
    return tuple(max(least, -(-side // multiple) * multiple) for side in sides)


def ramp(size: int, overlap: int, width: int) -> Tensor:
    """(size, size) weights of a tile: 1 inside, falling over ``width`` pixels in the middle of its overlaps."""
    edge = (torch.arange(size) + 0.5).minimum(size - 0.5 - torch.arange(size)) - (overlap - width) / 2
    line = (edge / max(1, width)).clamp(1e-3, 1)  # above 0: at the photo's border nothing else lies
    return line[:, None] * line


class Canvas:
    """A weighted mean of overlapping parts.

    Args:
        channels, height, width: of the whole.
        weight: (size, size) of a part.
    """

    def __init__(self, channels: int, height: int, width: int, weight: Tensor):
        self.sum = torch.zeros(channels, height, width)
        self.total = torch.zeros(1, height, width)
        self.weight = weight

    def add(self, part: Tensor, top: int, left: int) -> None:
        """Lay (channels, size, size) at a place; what hangs over the border is cut off."""
        size = self.weight.shape[0]
        rows = slice(max(0, top), min(self.sum.shape[1], top + size))
        columns = slice(max(0, left), min(self.sum.shape[2], left + size))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        own = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        self.sum[:, rows, columns] += part[:, own[0], own[1]] * self.weight[own]
        self.total[:, rows, columns] += self.weight[own]

    def mean(self) -> Tensor:
        """(channels, height, width); 0 where nothing was laid."""
        return self.sum / self.total.clamp(min=1e-6)


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels: rows top … bottom, columns left … right, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, margin: int, height: int, width: int) -> "Region":
        """With a margin around it, inside the photo."""
        return Region(
            max(0, self.top - margin),
            min(height, self.bottom + margin),
            max(0, self.left - margin),
            min(width, self.right + margin),
        )

    def of(self, photo: Tensor) -> Tensor:
        """(3, H, W) in [-1, 1] or uint8 -> this part of it in [-1, 1]; outside, the last row and column repeat."""
        part = to_float(photo[:, self.top : self.bottom, self.left : self.right])
        beyond = self.right - self.left - part.shape[2], self.bottom - self.top - part.shape[1]
        return F.pad(part[None], (0, beyond[0], 0, beyond[1]), mode="replicate")[0]

    def within(self, other: "Region", s: int) -> tuple[slice, ...]:
        """Where it lies in (C, H, W) of another region that is enlarged by s."""
        rows = slice((self.top - other.top) * s, (self.bottom - other.top) * s)
        return slice(None), rows, slice((self.left - other.left) * s, (self.right - other.left) * s)

    def meets(self, tile: Tile, size: int) -> bool:
        """Whether a tile of this size lies in it, at least in part."""
        rows = tile.top < self.bottom and tile.top + size > self.top
        return rows and tile.left < self.right and tile.left + size > self.left


def regions(height: int, width: int, block: int) -> Iterator[Region]:
    """The photo in blocks of at most ``block`` pixels a side."""
    for top in range(0, height, block):
        for left in range(0, width, block):
            yield Region(top, min(height, top + block), left, min(width, left + block))
