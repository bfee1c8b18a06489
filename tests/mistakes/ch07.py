"""Typical wrong answers of chapter 07: (exercise, answer, part of the diagnosis)."""

import torch
import torch.nn.functional as F

from vartutor.exercises.ch07 import blend, expected_code, patches


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


WRONG = [
    ("patches", lambda x, p: F.pixel_unshuffle(x, p).flatten(2), "one row per patch"),
    ("patches", lambda x, p: F.pixel_unshuffle(x, p).permute(0, 3, 2, 1).flatten(1, 2), "another order"),
    ("patches", lambda x, p: x.reshape(x.shape[0], -1, 3 * p * p), "the patch at the top left"),
    ("patches", lambda x, p: patches(x, 2), "let p decide"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, 1 / t, k), "were multiplied"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, 1.0, k), "no effect"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, t, x.shape[-1]), "keep the `top`"),
    ("expected_code", unnormalised, "add up to one"),
    ("expected_code", lambda x, e, t, k: e[x.argmax(-1)], "likeliest code alone"),
    ("expected_code", lambda x, e, t, k: e[x.topk(k).indices].mean(-2), "not all alike"),
    ("expected_code", lambda x, e, t, k: expected_code(x, e, t, k).T, "one vector per row"),
    ("blend", lambda tiles, lefts, width: pasted(tiles, lefts, width, "sum"), "give that strip back"),
    ("blend", lambda tiles, lefts, width: pasted(tiles, lefts, width, "mean"), "plain mean"),
    ("blend", lambda tiles, lefts, width: pasted(tiles, lefts, width, "last"), "overwrite"),
    ("blend", from_zero, "begin with 1"),
    ("blend", squared, "1, 2, 2, 1"),
    ("blend", lambda tiles, lefts, width: blend(tiles, lefts, width)[..., 1:], "return (C, n, width)"),
]
