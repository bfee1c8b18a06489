"""Typical wrong answers of chapter 05: (exercise, answer, part of the diagnosis)."""

import torch
import torch.nn.functional as F

from vartutor.exercises.ch04 import token_map
from vartutor.exercises.ch05 import canvas, hierarchical, next_inputs


def sides_of(groups):
    return [p for group in groups for p in group]


def wide(idx, codes, p, size):
    return F.interpolate(codes[idx].transpose(1, 2).unflatten(2, (p, p)), size=(size, size), mode="bicubic")


def variant(features, codes, groups, overlap=True, mode="bicubic", plain=False, subtract=True):
    maps, ends, f_hat = [], [], None
    for f, sides in zip(features, groups, strict=True):
        f = features[-1] if plain else f
        if f_hat is None or not overlap:
            f_hat = torch.zeros_like(f)
        f_hat = F.interpolate(f_hat, size=f.shape[-2:], mode=mode)
        for p in sides:
            maps.append(token_map(f - f_hat * subtract, codes, p))
            f_hat = f_hat + wide(maps[-1], codes, p, f.shape[-1])
        ends.append(f_hat)
    return maps, ends


def inputs(maps, codes, groups, border="bicubic", single=False, alone=False, old=False):
    sides, f_hat, parts = sides_of(groups), None, []
    for k, (idx, p) in enumerate(zip(maps[:-1], sides, strict=False)):
        here, there = (sides[-1],) * 2 if single else (canvas(k, groups), canvas(k + 1, groups))
        h = wide(idx, codes, p, here)
        f_hat = seen = h if f_hat is None or alone else f_hat + h
        if here != there:
            shape = (*f_hat.shape[:2], there, there)
            f_hat = torch.zeros(shape) if border is None else F.interpolate(f_hat, size=shape[2:], mode=border)
        small = F.interpolate(seen if old else f_hat, size=(sides[k + 1],) * 2, mode="area")
        parts.append(small.flatten(2).transpose(1, 2))
    return torch.cat(parts, 1)


def own_part(features, codes, groups):
    """f_hat goes on, but a group subtracts only what it added itself."""
    maps, ends, f_hat = [], [], torch.zeros_like(features[0])
    for f, sides in zip(features, groups, strict=True):
        f_hat = F.interpolate(f_hat, size=f.shape[-2:], mode="bicubic")
        own = torch.zeros_like(f)
        for p in sides:
            maps.append(token_map(f - own, codes, p))
            own = own + wide(maps[-1], codes, p, f.shape[-1])
        f_hat = f_hat + own
        ends.append(f_hat)
    return maps, ends


def one_more(maps, codes, groups):
    first = codes[maps[0]]
    return torch.cat([first, next_inputs(maps, codes, groups)], 1)


WRONG = [
    ("canvas", lambda k, groups: sides_of(groups)[k], "side of the map itself"),
    ("canvas", lambda k, groups: sides_of(groups)[-1], "one canvas for all"),
    ("canvas", lambda k, g: canvas(min(k + 1, len(sides_of(g)) - 1), g), "counted from 0"),
    ("canvas", lambda k, groups: [g[0] for g in groups for _ in g][k], "first side"),
    ("canvas", lambda k, groups: [i for i, g in enumerate(groups) for _ in g][k], "number of the group"),
    ("hierarchical", lambda f, c, g: variant(f, c, g, overlap=False), "every group starts from zero"),
    ("hierarchical", lambda f, c, g: variant(f, c, g, mode="nearest"), "between the groups by repeating"),
    ("hierarchical", lambda f, c, g: variant(f, c, g, plain=True), "all maps look at the largest"),
    (
        "hierarchical",
        lambda f, c, g: (hierarchical(f, c, g)[0], hierarchical(f, c, g)[1][-1:]),
        "not after the last alone",
    ),
    ("hierarchical", lambda f, c, g: (hierarchical(f, c, g)[0], f), "those are the features"),
    ("next_inputs", lambda m, c, g: inputs(m, c, g, border=None), "starts again at zero"),
    ("next_inputs", lambda m, c, g: inputs(m, c, g, border="nearest"), "enlarged by repeating"),
    ("next_inputs", lambda m, c, g: inputs(m, c, g, single=True), "one canvas for all maps"),
    ("next_inputs", lambda m, c, g: next_inputs(m, c, g)[:, :-1], "shape (1, 49, 4), and is"),
    ("canvas", lambda k, groups: sides_of(groups), "should be a whole number, and is a list"),
    ("canvas", lambda k, groups: groups[min(k, len(groups) - 1)][-1], "k for the number of a group"),
    ("hierarchical", lambda f, c, g: variant(f, c, g, mode="bilinear"), "with bilinear"),
    ("hierarchical", own_part, "only the part of the own group"),
    ("hierarchical", lambda f, c, g: hierarchical(f, c, g)[0], "should be (maps, f_hats)"),
    ("next_inputs", lambda m, c, g: inputs(m, c, g, alone=True), "last map alone"),
    ("next_inputs", lambda m, c, g: inputs(m, c, g, old=True), "on the old canvas"),
    ("next_inputs", lambda m, c, g: one_more(m, c, g), "shape (1, 49, 4), and is a tensor of floats, shape (1, 50, 4)"),
    ("next_inputs", lambda m, c, g: inputs(m, c, g, border="bilinear"), "enlarged with bilinear"),
    ("hierarchical", lambda f, c, g: variant(f, c, g, subtract=False), "looks at the features themselves"),
]
