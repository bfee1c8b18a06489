"""Degraded photo in, clean photo at ×1, ×2 and ×4 out: the pairs that everything trains and is judged on."""

from dataclasses import dataclass

from torch import Generator, Tensor

from vartutor.data.crops import eval_crops
from vartutor.data.degradation import Degradation, degrade
from vartutor.data.images import check_image, resize

SCALES = (1, 2, 4)


@dataclass(frozen=True)
class Pairs:
    """``lr`` (B, 3, h, w) and the targets ``hr[s]`` (B, 3, s h, s w), all in [-1, 1]; ``files`` names the photos."""

    lr: Tensor
    hr: dict[int, Tensor]
    files: tuple[str, ...] = ()


def pyramid(x: Tensor, scales: tuple[int, ...] = SCALES) -> dict[int, Tensor]:
    """The clean photo at every scale: (B, 3, H, W) -> {s: (B, 3, H s / S, W s / S)} with S the largest scale.

    The smaller ones are shrunk with antialiased bicubic (our choice; the paper does not say).
    """
    largest = max(scales)
    height, width = x.shape[-2:]
    small = {s: (height * s // largest, width * s // largest) for s in scales}
    return {s: x if size == (height, width) else resize(x, size).clamp(-1, 1) for s, size in small.items()}


def make_pairs(x: Tensor, preset: Degradation, generator: Generator | None = None) -> Pairs:
    """Clean crops (B, 3, H, W) in [-1, 1] -> pairs degraded with ``preset``; seeded by ``generator``."""
    return Pairs(degrade(x, preset, generator), pyramid(x))


def eval_pairs(preset: Degradation, split: str = "test", size: int = 64, per_photo: int = 3, seed: int = 0) -> Pairs:
    """The fixed pairs that the course reports on: crop i of the split is degraded with seed ``seed * 10**6 + i``."""
    x, files = eval_crops(split, size, per_photo)
    seeds = [seed * 10**6 + i for i in range(len(x))]
    return Pairs(degrade(x, preset, seeds=seeds), pyramid(x), tuple(files))


def upscale_bicubic(lr: Tensor, scales: tuple[int, ...] = SCALES) -> dict[int, Tensor]:
    """The line to beat: the degraded photo (B, 3, h, w), enlarged by each factor with bicubic interpolation."""
    height, width = check_image(lr).shape[-2:]
    return {s: resize(lr, (height * s, width * s)).clamp(-1, 1) for s in scales}
