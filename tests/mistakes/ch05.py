"""Typical wrong answers of chapter 05: (exercise, answer, part of the diagnosis)."""

import torch
import torch.nn.functional as F

from vartutor.exercises.ch04 import token_map
from vartutor.exercises.ch05 import canvas, hierarchical, next_inputs


def sides_of(groups):
    return [p for group in groups for p in group]


def wide(idx, codes, p, size):
    return F.interpolate(codes[idx].transpose(1, 2).unflatten(2, (p, p)), size=(size, size), mode="bicubic")


def variant(
    features, codes, groups, phi, bridge, overlap=True, own_bridge=True, plain=False, subtract=True, first=False
):
    maps, ends, f_hat = [], [], torch.zeros_like(features[-1 if plain else 0])
    for f, sides in zip(features, groups, strict=True):
        f = features[-1] if plain else f
        if not overlap:
            f_hat = torch.zeros_like(f)
        elif not own_bridge:
            f_hat = F.interpolate(f_hat, size=f.shape[-2:], mode="bicubic")
        elif first or maps:
            f_hat = bridge(f_hat, f.shape[-2:])
        for p in sides:
            maps.append(token_map(f - f_hat * subtract, codes, p))
            f_hat = f_hat + phi(wide(maps[-1], codes, p, f.shape[-1]), len(maps) - 1)
        ends.append(f_hat)
    return maps, ends


def inputs(maps, codes, groups, phi, bridge, restart=False, single=False, alone=False, old=False):
    sides, f_hat, parts = sides_of(groups), None, []
    for k, (idx, p) in enumerate(zip(maps[:-1], sides, strict=False)):
        here, there = (sides[-1],) * 2 if single else (canvas(k, groups), canvas(k + 1, groups))
        h = phi(wide(idx, codes, p, here), k)
        f_hat = seen = h if f_hat is None or alone else f_hat + h
        if here != there:
            f_hat = torch.zeros(*f_hat.shape[:2], there, there) if restart else bridge(f_hat, (there, there))
        small = F.interpolate(seen if old else f_hat, size=(sides[k + 1],) * 2, mode="area")
        parts.append(small.flatten(2).transpose(1, 2))
    return torch.cat(parts, 1)


def bicubic(f_hat, size):
    return F.interpolate(f_hat, size=size, mode="bicubic")


def own_part(features, codes, groups, phi, bridge):
    """f_hat goes on, but a group subtracts only what it added itself."""
    maps, ends, f_hat = [], [], torch.zeros_like(features[0])
    for f, sides in zip(features, groups, strict=True):
        f_hat = bridge(f_hat, f.shape[-2:]) if maps else f_hat
        own = torch.zeros_like(f)
        for p in sides:
            maps.append(token_map(f - own, codes, p))
            own = own + phi(wide(maps[-1], codes, p, f.shape[-1]), len(maps) - 1)
        f_hat = f_hat + own
        ends.append(f_hat)
    return maps, ends


def one_more(maps, codes, *rest):
    return torch.cat([codes[maps[0]], next_inputs(maps, codes, *rest)], 1)


WRONG = [
    ("canvas", lambda k, groups: sides_of(groups)[k], "side of the map itself"),
    ("canvas", lambda k, groups: sides_of(groups)[-1], "one canvas for all"),
    ("canvas", lambda k, g: canvas(min(k + 1, len(sides_of(g)) - 1), g), "counted from 0"),
    ("canvas", lambda k, groups: [g[0] for g in groups for _ in g][k], "first side"),
    ("canvas", lambda k, groups: [i for i, g in enumerate(groups) for _ in g][k], "number of the group"),
    ("hierarchical", lambda *a: variant(*a, overlap=False), "every group starts from zero"),
    ("hierarchical", lambda *a: variant(*a, own_bridge=False), "the bridge is not used"),
    ("hierarchical", lambda f, c, g, p, b: variant(f, c, g, lambda h, k: h, b), "phi is not used"),
    ("hierarchical", lambda *a: variant(*a, plain=True), "all maps look at the largest"),
    (
        "hierarchical",
        lambda *a: (hierarchical(*a)[0], hierarchical(*a)[1][-1:]),
        "not after the last alone",
    ),
    ("hierarchical", lambda *a: (hierarchical(*a)[0], a[0]), "those are the features"),
    ("next_inputs", lambda *a: inputs(*a, restart=True), "starts again at zero"),
    ("next_inputs", lambda m, c, g, p, b: inputs(m, c, g, p, bicubic), "the bridge is not used"),
    ("next_inputs", lambda *a: inputs(*a, single=True), "one canvas for all maps"),
    ("next_inputs", lambda *a: next_inputs(*a)[:, :-1], "shape (1, 49, 4), and is"),
    ("canvas", lambda k, groups: sides_of(groups), "should be a whole number, and is a list"),
    ("canvas", lambda k, groups: groups[min(k, len(groups) - 1)][-1], "k for the number of a group"),
    ("hierarchical", lambda *a: variant(*a, first=True), "the first group crosses the bridge"),
    ("hierarchical", own_part, "only the part of the own group"),
    ("hierarchical", lambda *a: hierarchical(*a)[0], "should be (maps, f_hats)"),
    ("next_inputs", lambda *a: inputs(*a, alone=True), "last map alone"),
    ("next_inputs", lambda *a: inputs(*a, old=True), "on the old canvas"),
    ("next_inputs", one_more, "shape (1, 49, 4), and is a tensor of floats, shape (1, 50, 4)"),
    ("next_inputs", lambda m, c, g, p, b: inputs(m, c, g, lambda h, k: h, b), "phi is not used"),
    ("hierarchical", lambda *a: variant(*a, subtract=False), "looks at the features themselves"),
]
