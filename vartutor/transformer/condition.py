"""What a transformer is told before it begins: a class, or a degraded photo."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Condition:
    """``vector`` (B, D) modulates every block; ``prefix`` (B, P, D) stands before the first map.

    ``sizes`` are the (height, width) of the maps that the prefix consists of, for rotary positions. ``features`` are
    the latents of the degraded photo, enlarged, one (B, C, h, w) per scale group, for the prior. ``added`` (B, D, h, w)
    is added to every map's inputs instead of standing before the first.
    """

    vector: Tensor
    prefix: Tensor | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    features: tuple[Tensor, ...] = ()
    added: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vector)

    def joined(self, other: "Condition") -> "Condition":
        """Both batches as one, self first."""
        prefix, added = (
            None if mine is None else torch.cat([mine, theirs])
            for mine, theirs in ((self.prefix, other.prefix), (self.added, other.added))
        )
        features = tuple(torch.cat(pair) for pair in zip(self.features, other.features, strict=True))
        return Condition(torch.cat([self.vector, other.vector]), prefix, self.sizes, features, added)

    def added_to(self, side: int) -> Tensor | float:
        """What is added to the inputs of a map of ``side`` × ``side`` tokens: (B, side², D), or 0 for nothing."""
        return 0.0 if self.added is None else spread(self.added, (side, side))


def spread(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, D, h, w) -> (B, height * width, D): means over areas towards a coarser map, bilinear towards a finer one."""
    finer = size[0] > maps.shape[-2] or size[1] > maps.shape[-1]
    return F.interpolate(maps, size=size, mode="bilinear" if finer else "area").flatten(2).transpose(1, 2)


class LatentPrefix(nn.Module):
    """The enlarged photo's finest latents, of C channels, as prefix tokens of width D: as in the paper, one each."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.proj = nn.Linear(channels, width)

    def forward(self, latents: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, h, w) -> (B, h w, D) and the map's (height, width)."""
        return self.proj(latents.flatten(2).transpose(1, 2)), tuple(latents.shape[-2:])


class PhotoPrefix(nn.Module):
    """The degraded photo as prefix tokens: one for every ``patch`` × ``patch`` pixels.

    Args:
        width: D.
        patch: side of the pixels that become one token.
    """

    def __init__(self, width: int, patch: int = 2):
        super().__init__()
        self.patch, hidden = patch, 64
        self.layers = nn.Sequential(
            nn.Conv2d(3 * patch**2, hidden, 3, padding=1), nn.SiLU(), nn.Conv2d(hidden, hidden, 3, padding=1), nn.SiLU()
        )
        self.proj = nn.Linear(hidden, width)

    def forward(self, photo: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, h, w) in [-1, 1], sides multiples of patch -> (B, h w / patch², D) and the map's (height, width)."""
        h = self.layers(F.pixel_unshuffle(photo, self.patch))
        return self.proj(h.flatten(2).transpose(1, 2)), tuple(h.shape[-2:])
