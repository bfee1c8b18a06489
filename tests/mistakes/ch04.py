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


def pyramid(f, codes, sides, phi, mode="bicubic", rest_of=None, start=0):
    f_hat, rest, maps = torch.zeros_like(f), f, []
    for k, p in enumerate(sides, start):
        idx = token_map(rest, codes, p)
        h = phi(wide(idx, codes, p, f.shape[-2:], mode), k)
        f_hat = f_hat + h
        rest = {None: rest - h, "f": f, "last": f - h}[rest_of]
        maps.append(idx)
    return maps, f_hat


def inputs(maps, codes, sides, phi, mode="area", add=True, own_size=False, last=False):
    f_hat, parts = 0, []
    for k, (idx, p) in enumerate(zip(maps, sides, strict=True)):
        if k + 1 == len(sides) and not last:
            break
        h = phi(wide(idx, codes, p, (sides[-1],) * 2), k)
        f_hat = f_hat + h if add else h
        side = p if own_size or k + 1 == len(sides) else sides[k + 1]
        parts.append(F.interpolate(f_hat, size=(side, side), mode=mode).flatten(2).transpose(1, 2))
    return torch.cat(parts, 1)


def in_place(f, codes, sides, phi):
    f_hat, rest, maps = torch.zeros_like(f), f, []
    for k, p in enumerate(sides):
        maps.append(token_map(rest, codes, p))
        h = phi(wide(maps[-1], codes, p, f.shape[-2:]), k)
        f_hat += h
        rest -= h
    return maps, f_hat


def straight(maps, codes, sides, phi):
    """The last map, enlarged to the size of the next with bicubic."""
    pairs = zip(maps, sides, sides[1:], strict=False)
    parts = [phi(wide(idx, codes, p, (q, q)), k) for k, (idx, p, q) in enumerate(pairs)]
    return torch.cat([part.flatten(2).transpose(1, 2) for part in parts], 1)


def leaking(maps, codes, sides, phi):
    """The sum that already holds the map to be predicted."""
    f_hat, parts = phi(wide(maps[0], codes, sides[0], (sides[-1],) * 2), 0), []
    for k, p in enumerate(sides[1:], 1):
        f_hat = f_hat + phi(wide(maps[k], codes, p, (sides[-1],) * 2), k)
        parts.append(F.interpolate(f_hat, size=(p, p), mode="area").flatten(2).transpose(1, 2))
    return torch.cat(parts, 1)


WRONG = [
    ("token_map", lambda r, c, p: shrunk(r, c, p, "nearest"), "one pixel of each area"),
    ("token_map", lambda r, c, p: shrunk(r, c, p, "bilinear"), "bilinear reads a few"),
    ("token_map", lambda r, c, p: shrunk(r, c, p, "bicubic"), "bicubic is for enlarging"),
    ("token_map", lambda r, c, p: shrunk(r, c, p, best=torch.argmax), "farthest"),
    ("token_map", lambda r, c, p: token_map(r, c, p).view(-1, p, p), "flatten it to"),
    ("token_map", lambda r, c, p: token_map(r, c, p).view(-1, p, p).transpose(1, 2).flatten(1), "columns before rows"),
    (
        "token_map",
        lambda r, c, p: (F.interpolate(r, size=(p, p), mode="area").permute(0, 2, 3, 1) @ c.T).argmax(-1).flatten(1),
        "long codes win it",
    ),
    ("multiscale", lambda f, c, s, phi: pyramid(f, c, s, phi, rest_of="f"), "looks at f itself"),
    ("multiscale", lambda f, c, s, phi: pyramid(f, c, s, phi, rest_of="last"), "last map alone"),
    ("multiscale", lambda f, c, s, phi: pyramid(f, c, s, phi, "nearest"), "repeating pixels"),
    ("multiscale", lambda f, c, s, phi: pyramid(f, c, s, phi, "bilinear"), "with bilinear"),
    ("multiscale", lambda *a: (pyramid(*a)[0], a[0] - pyramid(*a)[1]), "that is what is left"),
    ("multiscale", lambda *a: (multiscale(*a)[0], a[0]), "that is f itself"),
    ("next_inputs", lambda *a: inputs(*a, add=False), "last map alone"),
    ("next_inputs", lambda *a: inputs(*a, "bicubic"), "mean over areas"),
    ("next_inputs", lambda *a: inputs(*a, "nearest"), "picking pixels"),
    ("next_inputs", lambda *a: inputs(*a, own_size=True), "as large as its map"),
    ("next_inputs", lambda *a: inputs(*a, own_size=True, last=True), "one input too many"),
    ("next_inputs", lambda *a: next_inputs(*a) + 1, "at [0, 0, 0] it should be"),
    ("token_map", lambda r, c, p: nearest(r, c).flatten(1)[:, : p * p], "should be [[1, 0, 1, 1]], and is"),
    ("token_map", lambda r, c, p: token_map(r, c, p).float(), "whole numbers"),
    ("multiscale", in_place, "you changed your input f"),
    ("multiscale", lambda *a: pyramid(*a)[::-1], "maps should be a list of 3, and is a tensor"),
    ("multiscale", lambda *a: pyramid(*a)[0], "should be (maps, f_hat)"),
    ("multiscale", lambda f, c, s, phi: pyramid(f, c, s, lambda h, k: h), "phi is not used"),
    ("multiscale", lambda *a: pyramid(*a, start=1), "number of another map"),
    ("multiscale", lambda f, c, s, phi: pyramid(f, c, s, lambda h, k: phi(h)), "raised TypeError"),
    ("next_inputs", lambda m, c, s, phi: inputs(m, c, s, lambda h, k: h), "phi is not used"),
    ("next_inputs", straight, "straight to the next size"),
    ("next_inputs", leaking, "holds the map that is to be predicted"),
    ("next_inputs", lambda *a: inputs(*a, last=True), "nothing follows the last map"),
]
