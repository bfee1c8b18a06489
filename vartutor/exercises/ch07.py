"""Exercises of chapter 07."""

from functools import partial

import torch
import torch.nn.functional as F

from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch07")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def patches(photo, p):
    return F.pixel_unshuffle(photo, p).flatten(2).mT


def _sorted_rows(answer, photo, p):
    """A row may hold the pixels of its patch in any order."""
    rows = answer(photo, p)
    return rows.sort(-1).values if isinstance(rows, torch.Tensor) else rows


@sheet.exercise(1, 10, patches, run=_sorted_rows)
def _patches():
    """You know a function that stacks the pixels of a patch as channels (chapter 02).

    F.pixel_unshuffle puts the pixels of every patch into channels: (B, 3 p², h / p, w / p). Then flatten the two
    sides into one, and exchange it with the channels.
    """
    cases = [(torch.rand(b, 3, h, w), p) for b, h, w, p in ((1, 2, 4, 2), (2, 6, 12, 3), (2, 4, 10, 2))]
    mistakes = {
        "channels come before patches; exchange the two: .mT.": lambda x, p: F.pixel_unshuffle(x, p).flatten(2),
        "every row holds a patch, but they go down the columns; go along the rows, from left to right.": (
            lambda x, p: F.pixel_unshuffle(x, p).permute(0, 3, 2, 1).flatten(1, 2)
        ),
        "reshape cuts the rows of the photo into pieces; a patch has p pixels of each of p rows, in three colours.": (
            lambda x, p: x.reshape(len(x), -1, 3 * p * p)
        ),
        "p is not used; it decides the size of the patches.": lambda x, p: patches(x, 2),
        "every row is one position within all patches; a row is one patch.": (
            lambda x, p: x.unfold(2, p, p).unfold(3, p, p).permute(0, 4, 5, 1, 2, 3).reshape(len(x), -1, 3 * p * p)
        ),
        "that is one row per patch and colour; put the three colours into one row.": (
            lambda x, p: x.unfold(2, p, p).unfold(3, p, p).reshape(len(x), -1, p * p)
        ),
    }
    return cases, mistakes


def expected_code(logits, codes, temperature, top):
    values, order = logits.topk(top, -1)
    chances = (values / temperature).softmax(-1)
    return (chances[..., None] * codes[order]).sum(-2)


def _uncut(logits, codes, temperature, top):
    chances, order = (logits / temperature).softmax(-1).topk(top, -1)
    return (chances[..., None] * codes[order]).sum(-2)


def _kept(logits, codes, temperature, top, largest=True, weigh=lambda x: x.softmax(-1), add=True):
    values, order = logits.topk(top, -1, largest=largest)
    weighted = weigh(values / temperature)[..., None] * codes[order]
    return weighted.sum(-2) if add else weighted


@sheet.exercise(2, 20, expected_code)
def _expected_code():
    """First choose, then weigh. Over which codes must the weights add up to one?

    logits.topk gives the values and their places. Softmax the values divided by the temperature; codes[places] is (N,
    top, C), and the rest is a weighted sum.
    """
    sizes = ((1, 4, 2, 0.5, 2), (5, 12, 3, 0.6, 4), (6, 9, 4, 1.7, 3))
    cases = [(2 * torch.randn(n, v), torch.randn(v, c) + 2, t, k) for n, v, c, t, k in sizes]
    mistakes = {
        "you multiply the logits by the temperature; divide.": lambda x, e, t, k: expected_code(x, e, 1 / t, k),
        "the temperature has no effect.": lambda x, e, t, k: expected_code(x, e, 1, k),
        "all codes take part; keep the `top` likeliest.": lambda x, e, t, k: expected_code(x, e, t, len(e)),
        "the weights of the kept codes do not add up to one; take the softmax after keeping them.": _uncut,
        "the softmax is taken twice; take it of the logits.": lambda x, e, t, k: expected_code(x.softmax(-1), e, t, k),
        "the logits themselves are the weights; take their softmax.": partial(_kept, weigh=lambda x: x),
        "the probabilities are divided by the temperature, which belongs under the logits.": (
            lambda x, e, t, k: expected_code(x, e, 1, k) / t
        ),
        "that is the likeliest code alone.": lambda x, e, t, k: e[x.argmax(-1)],
        "all kept codes count alike; weigh by probabilities.": lambda x, e, t, k: e[x.topk(k).indices].mean(-2),
        "those are the least likely codes; keep the likeliest.": partial(_kept, largest=False),
        "the weighted codes are not added up over the kept ones; return (N, C).": partial(_kept, add=False),
    }
    return cases, mistakes


def soft_loss(logits, goals, codes, tau):
    far = torch.cdist(goals, codes).square()  # (B, L, V)
    t = (-far / (tau * far.amin(-1, keepdim=True))).softmax(-1)
    return -(t * logits.log_softmax(-1)).sum(-1)


def _soft(logits, goals, codes, tau, unit=lambda far: far.amin(-1, keepdim=True), power=2, of=-1, logs=True, sign=-1):
    far = (goals[:, :, None] - codes).square().sum(-1) ** (power / 2)
    t = (-far / (tau * unit(far))).softmax(of)
    return sign * (t * (logits.log_softmax(-1) if logs else logits.softmax(-1))).sum(-1)


@sheet.exercise(2, 20, soft_loss)
def _soft_loss():
    """First the targets, which do not depend on the logits at all. Their shape is (B, L, V).

    Squared distances of all goals to all codes are (B, L, V). Divide them by τ times the smallest of each row; the
    targets are the softmax of minus that. Then a cross entropy with them, one number per token.
    """
    sizes = ((1, 2, 3, 2, 0.5), (2, 5, 9, 4, 0.3), (3, 4, 7, 3, 1.5))
    cases = [(2 * torch.randn(b, n, v), torch.randn(b, n, c), torch.randn(v, c), tau) for b, n, v, c, tau in sizes]
    mistakes = {
        "that is the usual cross entropy, with the nearest code alone.": (
            lambda x, g, e, tau: F.cross_entropy(x.mT, torch.cdist(g, e).argmin(-1), reduction="none")
        ),
        "d² is missing; every token measures by the distance of its own nearest code.": partial(
            _soft, unit=lambda far: 1
        ),
        "one d serves all tokens; every token has its own.": partial(_soft, unit=torch.mean),
        "you divide by the largest distance; d is that of the nearest code.": (
            partial(_soft, unit=lambda far: far.amax(-1, keepdim=True))
        ),
        "the distances are not squared.": partial(_soft, power=1),
        "τ has no effect.": lambda x, g, e, tau: soft_loss(x, g, e, 1),
        "you multiply by τ; divide by it.": lambda x, g, e, tau: soft_loss(x, g, e, 1 / tau),
        "far codes get the largest share; mind the sign before the softmax.": lambda x, g, e, tau: soft_loss(
            x, g, e, -tau
        ),
        "the softmax of the targets runs over the tokens; it belongs over the codes.": partial(_soft, of=1),
        "the targets meet probabilities; they belong with their logarithms.": partial(_soft, logs=False),
        "the sign is wrong; a logarithm of a chance is negative, and a loss is not.": partial(_soft, sign=1),
        "that is the mean; return one number per token, (B, L).": lambda *a: soft_loss(*a).mean(),
        "that is one number per photo; return one per token, (B, L).": lambda *a: soft_loss(*a).mean(1),
    }
    return cases, mistakes


def blend(tiles, lefts, width):
    n = tiles.shape[-1]
    ramp = torch.minimum(torch.arange(1, n + 1), torch.arange(n, 0, -1)).to(tiles)
    total, weight = tiles.new_zeros(*tiles.shape[1:3], width), tiles.new_zeros(width)
    for tile, left in zip(tiles, lefts, strict=True):
        total[..., left : left + n] += ramp * tile
        weight[left : left + n] += ramp
    return total / weight


def _ramp(n):
    return torch.minimum(torch.arange(1, n + 1), torch.arange(n, 0, -1)).float()


def _paste(tiles, lefts, width, ramp=_ramp, divide=True):
    n = tiles.shape[-1]
    total, weight, weights = tiles.new_zeros(*tiles.shape[1:3], width), tiles.new_zeros(width), ramp(n)
    for tile, left in zip(tiles, lefts, strict=True):
        total[..., left : left + n] += weights * tile
        weight[left : left + n] += weights if divide != "count" else 1
    return total / weight if divide else total


def _pairwise(tiles, lefts, width, overwrite=False):
    """Each tile is averaged with what is there, whatever that is made of."""
    n = tiles.shape[-1]
    out = tiles.new_full((*tiles.shape[1:3], width), torch.nan)
    for tile, left in zip(tiles, lefts, strict=True):
        there = out[..., left : left + n]
        out[..., left : left + n] = torch.where(there.isnan() | overwrite, tile, (there + tile) / 2)
    return out


@sheet.exercise(3, 30, blend)
def _blend():
    """What would you do for one place where two tiles overlap? You need a weighted sum, and what to divide it by.

    Keep two things: the sum of weight times tile, and the sum of the weights, both as wide as the strip. Add every
    tile to both at its place, and divide in the end.
    """
    cases = ((1, 3, [0, 2], 5), (2, 6, [0, 2, 4, 9], 15), (3, 5, [0, 3, 4, 6], 11), (2, 4, [0, 3], 7))
    cases = [(torch.randn(len(lefts), c, n, n), lefts, width) for c, n, lefts, width in cases]
    mistakes = {
        "that is the plain mean; weights rise from a tile's borders to its middle.": partial(_paste, ramp=torch.ones),
        "later tiles overwrite earlier ones; add them up instead.": partial(_pairwise, overwrite=True),
        "each tile is averaged with what is there, so early tiles count less; keep two sums.": _pairwise,
        "the weighted sum is not divided by the sum of the weights.": partial(_paste, divide=False),
        "the tiles are added without weights, and not divided.": partial(_paste, ramp=torch.ones, divide=False),
        "the weighted sum is divided by the number of tiles, not by their weights.": partial(_paste, divide="count"),
        "weights are 0 at a tile's border; they begin with 1.": partial(_paste, ramp=lambda n: _ramp(n) - 1),
        "the weights are flat between the borders; they rise up to the middle, such as 1, 2, 3, 3, 2, 1.": (
            partial(_paste, ramp=lambda n: _ramp(n).clamp(max=2))
        ),
        "the weights are squared; they rise linearly: 1, 2, 3 …": partial(_paste, ramp=lambda n: _ramp(n) ** 2),
        "the weights rise from left to right only; they fall again to the right border.": (
            partial(_paste, ramp=lambda n: torch.arange(1.0, n + 1))
        ),
    }
    return cases, mistakes
