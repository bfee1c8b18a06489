"""Exercises of chapter 00."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch00")
check, hint, solution = sheet.check, sheet.hint, sheet.solution

LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)


def count_tokens(patch_nums):
    return sum(p * p for p in patch_nums)


@sheet.exercise(1, count_tokens)
def _test_count_tokens(answer) -> None:
    """A scale of side p is a square of tokens."""
    got, right = answer(LADDER), count_tokens(LADDER)
    require(got != sum(LADDER), "you added the sides; a scale of side p has p * p tokens")
    require(got != LADDER[-1] ** 2, "that is the last scale alone; the model predicts every scale of the ladder")
    require(got == right, f"for {LADDER} the answer is {right}, yours is {got}")
    require(answer((2, 2)) == 8, "a side may stand in the ladder twice, and counts twice")


def to_pixels(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@sheet.exercise(2, to_pixels)
def _test_to_pixels(answer) -> None:
    """Four steps: shift and scale, round, clamp, convert. The conversion must come last."""
    inside = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])
    got = answer(inside)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(got.dtype == torch.uint8, f"return uint8, not {got.dtype}: image files hold whole numbers")
    require(int(got[0]) == 0 and int(got[-1]) == 255, f"-1 must become 0 and 1 must become 255; yours: {got.tolist()}")
    require(
        not torch.equal(got, ((inside + 1) * 127.5).to(torch.uint8)),
        "you cut the fraction off, which darkens the image by half a level on average: round first",
    )
    outside = answer(torch.tensor([-1.2, 1.1]))
    require(
        outside.tolist() == [0, 255],
        f"a model may leave [-1, 1]: -1.2 and 1.1 became {outside.tolist()}; clamp before the conversion, "
        "or dark pixels wrap round to bright ones",
    )
    levels = torch.arange(256)
    require(
        torch.equal(answer(levels / 127.5 - 1), levels.to(torch.uint8)),
        "not every level 0..255 comes back; add 1, then multiply by 127.5",
    )


def coarse_to_fine(x, sizes):
    parts, rest = [], x
    for p in sizes:
        part = F.interpolate(rest, size=(p, p), mode="area")
        rest = rest - F.interpolate(part, size=x.shape[-2:], mode="bicubic")
        parts.append(part)
    return parts


@sheet.exercise(3, coarse_to_fine)
def _test_coarse_to_fine(answer) -> None:
    """Keep a variable rest. In each step shrink rest with F.interpolate(mode='area'), store the small map, enlarge it
    with mode='bicubic' and subtract it from rest."""
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sizes = (1, 2, 4, 16)
    got, right = answer(x, sizes), coarse_to_fine(x, sizes)
    require(isinstance(got, (list, tuple)) and len(got) == 4, "return a list with one map per size")
    shapes = [tuple(part.shape) for part in got]
    require(
        all(s[-2:] == (p, p) for s, p in zip(shapes, sizes, strict=True)),
        f"map k must be p x p: shapes {shapes}; enlarge only what you subtract, and store the small map",
    )
    if torch.allclose(got[1], F.interpolate(x, size=(2, 2), mode="area"), atol=1e-5):
        require(False, "every map shrinks the photo itself; shrink what the maps before could not explain")
    require(
        torch.allclose(got[0], right[0], atol=1e-5), "the first map must be the mean colour: shrink with mode='area'"
    )
    total = sum(F.interpolate(part, size=(16, 16), mode="bicubic") for part in got)
    require(
        torch.allclose(total, x, atol=1e-4),
        "the enlarged maps must add up to the photo; subtract what you keep, enlarged with mode='bicubic'",
    )
    require(
        all(torch.allclose(a, b, atol=1e-4) for a, b in zip(got, right, strict=True)),
        "your maps add up, but differ from area down, bicubic up",
    )
