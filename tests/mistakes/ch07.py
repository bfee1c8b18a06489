"""Typical wrong answers of chapter 07: (exercise, answer, part of the diagnosis)."""

import torch
import torch.nn.functional as F

from vartutor.exercises.ch07 import blend, expected_code, patches, soft_loss


def unnormalised(logits, codes, temperature, top):
    chances, order = (logits / temperature).softmax(-1).topk(top, -1)
    return (chances[..., None] * codes[order]).sum(-2)


def pasted(tiles, lefts, width, mode):
    out, count = tiles.new_zeros(*tiles.shape[1:3], width), tiles.new_zeros(width)
    n = tiles.shape[-1]
    for tile, left in zip(tiles, lefts, strict=True):
        here = slice(left, left + n)
        out[..., here] = tile if mode == "last" else out[..., here] + tile
        count[here] += 1
    return out / count if mode == "mean" else out


def from_zero(tiles, lefts, width):
    n = tiles.shape[-1]
    ramp = torch.minimum(torch.arange(n), torch.arange(n - 1, -1, -1)).to(tiles)
    out, weight = tiles.new_zeros(*tiles.shape[1:3], width), tiles.new_zeros(width)
    for tile, left in zip(tiles, lefts, strict=True):
        out[..., left : left + n] += ramp * tile
        weight[left : left + n] += ramp
    return out / weight


def squared(tiles, lefts, width):
    n = tiles.shape[-1]
    ramp = torch.minimum(torch.arange(1, n + 1), torch.arange(n, 0, -1)).to(tiles) ** 2
    out, weight = tiles.new_zeros(*tiles.shape[1:3], width), tiles.new_zeros(width)
    for tile, left in zip(tiles, lefts, strict=True):
        out[..., left : left + n] += ramp * tile
        weight[left : left + n] += ramp
    return out / weight


def running(tiles, lefts, width):
    """Where something is already, the mean of that and the new tile."""
    out, there = tiles.new_zeros(*tiles.shape[1:3], width), torch.zeros(width, dtype=torch.bool)
    for tile, left in zip(tiles, lefts, strict=True):
        here = slice(left, left + tile.shape[-1])
        out[..., here] = torch.where(there[here], (out[..., here] + tile) / 2, tile)
        there[here] = True
    return out


def weighted(tiles, lefts, width, ramp):
    out, weight = tiles.new_zeros(*tiles.shape[1:3], width), tiles.new_zeros(width)
    for tile, left in zip(tiles, lefts, strict=True):
        out[..., left : left + len(ramp)] += ramp * tile
        weight[left : left + len(ramp)] += ramp
    return out / weight


def plateau(tiles, lefts, width):
    ramp = torch.full((tiles.shape[-1],), 2.0)
    ramp[[0, -1]] = 1
    return weighted(tiles, lefts, width, ramp)


def fixed(tiles, lefts, width):
    return weighted(tiles, lefts, width, torch.tensor([1.0, 2.0, 2.0, 1.0]))


def in_place(tiles, lefts, width):
    n = tiles.shape[-1]
    tiles *= torch.minimum(torch.arange(1, n + 1), torch.arange(n, 0, -1))
    ramp = torch.minimum(torch.arange(1, n + 1), torch.arange(n, 0, -1)).float()
    weight = weighted(torch.ones_like(tiles), lefts, width, torch.ones(n))
    return weight * pasted(tiles, lefts, width, "sum") / pasted(ramp.expand_as(tiles), lefts, width, "sum")


def soft(logits, goals, codes, tau, unit):
    far = torch.cdist(goals, codes).square()
    return -((-far / tau / unit(far)).softmax(-1) * logits.log_softmax(-1)).sum(-1)


def hard(logits, goals, codes, tau):
    right = torch.cdist(goals, codes).argmin(-1)
    return -logits.log_softmax(-1).gather(-1, right[..., None])[..., 0]


WRONG = [
    ("soft_loss", hard, "the usual cross entropy"),
    ("soft_loss", lambda *a: soft(*a, lambda far: 1), "d² is missing"),
    ("soft_loss", lambda *a: soft(*a, lambda far: far.mean()), "every token has its own"),
    ("soft_loss", lambda *a: soft(*a, lambda far: far.amin(-1, keepdim=True).sqrt()), "the result should be"),
    ("soft_loss", lambda *a: -soft_loss(*a), "the sign is wrong"),
    ("soft_loss", lambda x, g, e, tau: soft_loss(x, g, e, 1.0), "no effect"),
    ("soft_loss", lambda *a: soft_loss(*a).mean(), "one number per token"),
    ("soft_loss", lambda x, g, e, tau: soft_loss(x.softmax(-1).log().exp(), g, e, tau), "the result should be"),
    ("patches", lambda x, p: F.pixel_unshuffle(x, p).flatten(2), "exchange the two"),
    ("patches", lambda x, p: F.pixel_unshuffle(x, p).permute(0, 3, 2, 1).flatten(1, 2), "go along the rows"),
    ("patches", lambda x, p: x.reshape(x.shape[0], -1, 3 * p * p), "reshape cuts the rows"),
    ("patches", lambda x, p: patches(x, 2), "p is not used"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, 1 / t, k), "you multiply the logits"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, 1.0, k), "no effect"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, t, x.shape[-1]), "keep the `top`"),
    ("expected_code", unnormalised, "add up to one"),
    ("expected_code", lambda x, e, t, k: e[x.argmax(-1)], "likeliest code alone"),
    ("expected_code", lambda x, e, t, k: e[x.topk(k).indices].mean(-2), "count alike"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, t, k).T, "shape (1, 2), and is"),
    ("blend", lambda tiles, lefts, width: pasted(tiles, lefts, width, "sum"), "not divided"),
    ("blend", lambda tiles, lefts, width: pasted(tiles, lefts, width, "mean"), "plain mean"),
    ("blend", lambda tiles, lefts, width: pasted(tiles, lefts, width, "last"), "overwrite"),
    ("blend", from_zero, "begin with 1"),
    ("blend", squared, "weights are squared"),
    ("blend", lambda tiles, lefts, width: blend(tiles, lefts, width)[..., 1:], "shape (1, 3, 5), and is"),
    ("patches", lambda x, p: F.pixel_unshuffle(x, p), "shape (1, 12, 1, 2)"),
    ("patches", lambda x, p: F.unfold(x, 2, stride=2).mT, "p is not used"),
    ("patches", lambda x, p: x.unfold(2, p, p).unfold(3, p, p).reshape(len(x), -1, p * p), "patch and colour"),
    ("expected_code", lambda x, e, t, k: expected_code(x.softmax(-1), e, t, k), "softmax is taken twice"),
    ("blend", running, "early tiles count less"),
    ("blend", plateau, "flat between the borders"),
    ("blend", fixed, "size of tensor"),
    ("blend", in_place, "you changed your input tiles"),
]
