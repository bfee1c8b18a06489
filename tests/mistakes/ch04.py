"""Typical wrong answers of chapter 04: (exercise, answer, part of the diagnosis)."""

import torch
import torch.nn.functional as F

from vartutor.exercises.ch04 import multiscale, next_inputs, token_map


def nearest(z, codes, best=torch.argmin):
    return best((z.permute(0, 2, 3, 1)[..., None, :] - codes).square().sum(-1), -1)


def shrunk(rest, codes, p, mode="area", best=torch.argmin):
    return nearest(F.interpolate(rest, size=(p, p), mode=mode), codes, best).flatten(1)


def wide(idx, codes, p, size, mode="bicubic"):
    return F.interpolate(codes[idx].transpose(1, 2).unflatten(2, (p, p)), size=size, mode=mode)


def pyramid(f, codes, sides, mode="bicubic", rest_of=None):
    f_hat, rest, maps = torch.zeros_like(f), f, []
    for p in sides:
        idx = token_map(rest, codes, p)
        h = wide(idx, codes, p, f.shape[-2:], mode)
        f_hat = f_hat + h
        rest = {None: rest - h, "f": f, "last": f - h}[rest_of]
        maps.append(idx)
    return maps, f_hat


def inputs(maps, codes, sides, mode="area", add=True, own_size=False, last=False):
    f_hat, parts = 0, []
    for k, (idx, p) in enumerate(zip(maps, sides, strict=True)):
        if k + 1 == len(sides) and not last:
            break
        h = wide(idx, codes, p, (sides[-1],) * 2)
        f_hat = f_hat + h if add else h
        side = p if own_size or k + 1 == len(sides) else sides[k + 1]
        parts.append(F.interpolate(f_hat, size=(side, side), mode=mode).flatten(2).transpose(1, 2))
    return torch.cat(parts, 1)


WRONG = [
    ("token_map", lambda r, c, p: shrunk(r, c, p, "nearest"), "one pixel of each area"),
    ("token_map", lambda r, c, p: shrunk(r, c, p, "bilinear"), "interpolation between a few"),
    ("token_map", lambda r, c, p: shrunk(r, c, p, "bicubic"), "bicubic is for enlarging"),
    ("token_map", lambda r, c, p: shrunk(r, c, p, best=torch.argmax), "farthest"),
    ("token_map", lambda r, c, p: token_map(r, c, p).view(-1, p, p), "row of tokens per image"),
    ("token_map", lambda r, c, p: token_map(r, c, p).view(-1, p, p).transpose(1, 2).flatten(1), "columns before rows"),
    (
        "token_map",
        lambda r, c, p: (F.interpolate(r, size=(p, p), mode="area").permute(0, 2, 3, 1) @ c.T).argmax(-1).flatten(1),
        "dot product",
    ),
    ("multiscale", lambda f, c, s: pyramid(f, c, s, rest_of="f"), "looks at f itself"),
    ("multiscale", lambda f, c, s: pyramid(f, c, s, rest_of="last"), "last map alone"),
    ("multiscale", lambda f, c, s: pyramid(f, c, s, "nearest"), "repeating pixels"),
    ("multiscale", lambda f, c, s: pyramid(f, c, s, "bilinear"), "with bilinear"),
    ("multiscale", lambda f, c, s: (pyramid(f, c, s)[0], f - pyramid(f, c, s)[1]), "that is what is left"),
    ("multiscale", lambda f, c, s: (multiscale(f, c, s)[0], f), "not the sum of the enlarged maps"),
    ("next_inputs", lambda m, c, s: inputs(m, c, s, add=False), "last map alone"),
    ("next_inputs", lambda m, c, s: inputs(m, c, s, "bicubic"), "mean over areas"),
    ("next_inputs", lambda m, c, s: inputs(m, c, s, "nearest"), "picking pixels"),
    ("next_inputs", lambda m, c, s: inputs(m, c, s, own_size=True), "size of that map"),
    ("next_inputs", lambda m, c, s: inputs(m, c, s, own_size=True, last=True), "one input too many"),
    ("next_inputs", lambda m, c, s: next_inputs(m, c, s) + 1, "compare one scale"),
]
