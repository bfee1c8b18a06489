"""Exercises of chapter 07."""

import torch
import torch.nn.functional as F

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch07")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def patches(photo, p):
    return F.pixel_unshuffle(photo, p).flatten(2).mT


@sheet.exercise(1, patches)
def _test_patches(answer) -> None:
    """F.pixel_unshuffle puts the pixels of every patch into channels: (B, 3 p², h / p, w / p). Then flatten the two
    sides into one, and exchange it with the channels."""
    photo = torch.arange(2 * 3 * 4 * 8, dtype=torch.float32).view(2, 3, 4, 8)
    got, right = answer(photo, 2), patches(photo, 2)
    require(
        getattr(got, "shape", None) == right.shape, f"return {tuple(right.shape)}: one row per patch of 2 × 2 pixels"
    )
    require(
        torch.equal(got.sort(-1).values[:, :1], right.sort(-1).values[:, :1]),
        "the first row does not hold the pixels of the patch at the top left, in all three colours",
    )
    require(
        torch.equal(got.sort(-1).values, right.sort(-1).values),
        "every row holds a patch, but in another order: go along the rows of patches, from left to right",
    )
    require(getattr(answer(photo, 4), "shape", None) == (2, 2, 48), "let p decide the size of the patches")


def expected_code(logits, codes, temperature, top):
    values, order = logits.topk(top, -1)
    chances = (values / temperature).softmax(-1)
    return (chances[..., None] * codes[order]).sum(-2)


@sheet.exercise(2, expected_code)
def _test_expected_code(answer) -> None:
    """logits.topk gives the values and their places. Softmax the values divided by the temperature; codes[places] is
    (N, top, C), and the rest is a weighted sum."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 12, generator=generator) * 2
    codes = torch.randn(12, 3, generator=generator) + 5
    got, right = answer(logits, codes, 0.5, 4), expected_code(logits, codes, 0.5, 4)
    require(getattr(got, "shape", None) == right.shape, "return one vector per row: (N, C)")
    order = logits.topk(4, -1).indices
    mistakes = {
        "divide the logits by the temperature; they were multiplied": expected_code(logits, codes, 2.0, 4),
        "the temperature has no effect": expected_code(logits, codes, 1.0, 4),
        "all codes take part: keep the `top` likeliest": expected_code(logits, codes, 0.5, 12),
        "the weights of the kept codes must add up to one: take the softmax after keeping them": (
            (logits / 0.5).softmax(-1).gather(-1, order)[..., None] * codes[order]
        ).sum(-2),
        "this is the likeliest code alone": codes[logits.argmax(-1)],
        "weigh the kept codes by their probabilities, not all alike": codes[order].mean(-2),
    }
    for diagnosis, wrong in mistakes.items():
        require(not torch.allclose(got, wrong, atol=1e-5), diagnosis)
    require(torch.allclose(got, right, atol=1e-5), "the vectors are wrong, though their shape is right")


def blend(tiles, lefts, width):
    n = tiles.shape[-1]
    ramp = torch.minimum(torch.arange(1, n + 1), torch.arange(n, 0, -1)).to(tiles)
    total, weight = tiles.new_zeros(*tiles.shape[1:3], width), tiles.new_zeros(width)
    for tile, left in zip(tiles, lefts, strict=True):
        total[..., left : left + n] += ramp * tile
        weight[left : left + n] += ramp
    return total / weight


@sheet.exercise(3, blend)
def _test_blend(answer) -> None:
    """Keep two things: the sum of weight times tile, and the sum of the weights, both as wide as the strip. Add every
    tile to both at its place, and divide in the end."""
    generator = torch.Generator().manual_seed(0)
    lefts, width = [0, 3, 5], 9
    strip = torch.randn(2, 4, width, generator=generator)
    tiles = torch.stack([strip[..., left : left + 4] for left in lefts])
    got = answer(tiles.clone(), lefts, width)
    require(getattr(got, "shape", None) == (2, 4, width), f"return (C, n, width): (2, 4, {width})")
    require(bool(got.isfinite().all()), "somewhere the weights are zero: they begin with 1 at a tile's border")
    require(
        torch.allclose(got, strip, atol=1e-5),
        "tiles cut from one strip must give that strip back: divide the weighted sum by the sum of the weights",
    )
    tiles = torch.randn(3, 2, 4, 4, generator=generator)
    got, right = answer(tiles.clone(), lefts, width), blend(tiles, lefts, width)
    plain, last = torch.zeros_like(right), torch.zeros_like(right)
    count = torch.zeros(width)
    for tile, left in zip(tiles, lefts, strict=True):
        plain[..., left : left + 4] += tile
        count[left : left + 4] += 1
        last[..., left : left + 4] = tile
    require(not torch.allclose(got, plain / count, atol=1e-5), "that is the plain mean: weights rise from the borders")
    require(not torch.allclose(got, last, atol=1e-5), "later tiles overwrite earlier ones; add them up instead")
    require(torch.allclose(got, right, atol=1e-5), "the weights of a tile of four columns are 1, 2, 2, 1")
