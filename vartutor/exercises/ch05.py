"""Exercises of chapter 05."""

from functools import partial

import torch
import torch.nn.functional as F

from vartutor.exercises.ch04 import enlarged, some_phi, token_map
from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch05")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution

GROUPS = (((1, 2), (3, 6)), ((1, 2, 4), (6, 8), (12, 16)), ((2,), (3, 4), (5, 8, 10)))


def canvas(k, groups):
    for sides in groups:
        if k < len(sides):
            return sides[-1]
        k -= len(sides)


def _sides(groups):
    return [p for group in groups for p in group]


@sheet.exercise(1, 10, canvas)
def _canvas():
    """Which group does map k belong to?

    The features of a group are as large as its last map. Walk through the groups; as long as k is not in the group,
    subtract its length.
    """
    cases = [(k, groups) for groups in GROUPS for k in range(len(_sides(groups)))]
    mistakes = {
        "that is the side of the map itself; it is enlarged to the features of its group.": lambda k, g: _sides(g)[k],
        "that is VAR's way, one canvas for all; in HIT every group has its own.": lambda k, g: g[-1][-1],
        "one map too early; maps are counted from 0.": lambda k, g: canvas(min(k + 1, len(_sides(g)) - 1), g),
        "one map too late; maps are counted from 0.": lambda k, g: canvas(max(k - 1, 0), g),
        "that is the group's first side; its features have the last.": lambda k, g: [s[0] for s in g for _ in s][k],
        "that is the number of the group, not a side.": lambda k, g: [n for n, s in enumerate(g) for _ in s][k],
        "you took k for the number of a group; it counts the maps.": lambda k, g: g[min(k, len(g) - 1)][-1],
    }
    return cases, mistakes


def hierarchical(features, codes, groups, phi, bridge):
    maps, ends, f_hat = [], [], torch.zeros_like(features[0])
    for f, sides in zip(features, groups, strict=True):
        if ends:
            f_hat = bridge(f_hat, f.shape[-2:])
        for p in sides:
            idx = token_map(f - f_hat, codes, p)
            h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
            h = F.interpolate(h, size=f.shape[-2:], mode="bicubic")
            f_hat = f_hat + phi(h, len(maps))
            maps.append(idx)
        ends.append(f_hat)
    return maps, ends


def some_bridge(f_hat, size):
    """In the place of a learnt one: neither bicubic alone, nor the identity where the size stays."""
    return 0.8 * F.interpolate(f_hat, size=size, mode="bicubic").roll(1, -1) + 0.1


def _no_phi(h, k):
    return h


def _bicubic(f_hat, size):
    return F.interpolate(f_hat, size=size, mode="bicubic")


def _from_zero(f_hat, size):
    return f_hat.new_zeros(*f_hat.shape[:2], *size)


def _tokens(
    features, codes, groups, phi, bridge, up="bicubic", rest=lambda f, f_hat, own: f - f_hat, which=None, first=False
):
    maps, ends, f_hat = [], [], 0 * features[which or 0]
    for g, sides in enumerate(groups):
        f = features[g if which is None else which]
        f_hat = bridge(f_hat, f.shape[-2:]) if ends or first else f_hat
        start = f_hat
        for p in sides:
            maps.append(token_map(rest(f, f_hat, f_hat - start), codes, p))
            f_hat = f_hat + phi(enlarged(maps[-1], codes, p, f.shape[-1], up), len(maps) - 1)
        ends.append(f_hat)
    return maps, ends


def _restarted(features, codes, groups, phi, bridge):
    """φ counts the maps of a group alone."""
    own = [k for sides in groups for k in range(len(sides))]
    return hierarchical(features, codes, groups, lambda h, k: phi(h, own[k]), bridge)


@sheet.exercise(2, 20, hierarchical, parts=("maps", "f_hats"))
def _hierarchical():
    """Start from the pyramid of chapter 04. Which two lines depend on the group?

    Start from the exercise of chapter 04. Two things change: what f_hat is at the start of a group, and what the maps
    of a group look at. The first group starts at zero, without the bridge; k counts through all groups.
    """
    cases = [
        ([torch.randn(b, 5, s[-1], s[-1]) for s in g], torch.randn(40, 5), g, some_phi, some_bridge)
        for b, g in enumerate(GROUPS, 1)
    ]
    mistakes = {
        "every group starts from zero; start from f_hat of the group before, over the bridge.": (
            lambda f, e, g, phi, bridge: _tokens(f, e, g, phi, _from_zero)
        ),
        "the bridge is not used; it carries f_hat to the size of the next group.": (
            lambda f, e, g, phi, bridge: _tokens(f, e, g, phi, _bicubic)
        ),
        "the first group crosses the bridge too; it starts at zero.": partial(_tokens, first=True),
        "phi is not used; every enlarged map passes through it.": (
            lambda f, e, g, phi, bridge: _tokens(f, e, g, _no_phi, bridge)
        ),
        "phi counts from 0 in every group; k goes on through all groups.": _restarted,
        "every map looks at the features themselves; subtract f_hat.": partial(_tokens, rest=lambda f, f_hat, own: f),
        "f_hat goes on from group to group, but only the part of the own group is subtracted; subtract all of it.": (
            partial(_tokens, rest=lambda f, f_hat, own: f - own)
        ),
        "you enlarge the maps by repeating; use mode='bicubic'.": partial(_tokens, up="nearest"),
        "all maps look at the largest features; each group has features of its own.": partial(_tokens, which=-1),
        "those are the features; return f_hat after every group.": lambda *a: (hierarchical(*a)[0], a[0]),
        "return f_hat after every group, not after the last alone.": (
            lambda *a: (hierarchical(*a)[0], hierarchical(*a)[1][-1:])
        ),
        "that is what is left after every group; return f_hat itself.": (
            lambda *a: ((s := hierarchical(*a))[0], [f - f_hat for f, f_hat in zip(a[0], s[1], strict=True)])
        ),
    }
    return cases, mistakes


def next_inputs(maps, codes, groups, phi, bridge):
    sides = [p for group in groups for p in group]
    f_hat, inputs = 0, []
    for k, p in enumerate(sides[:-1]):  # the last map is not an input
        size = (canvas(k, groups),) * 2
        h = F.interpolate(codes[maps[k]].transpose(1, 2).unflatten(2, (p, p)), size=size, mode="bicubic")
        f_hat = f_hat + phi(h, k)
        wide = (canvas(k + 1, groups),) * 2  # the same canvas, or that of the next group
        if wide != size:
            f_hat = bridge(f_hat, wide)
        small = F.interpolate(f_hat, size=(sides[k + 1],) * 2, mode="area")
        inputs.append(small.flatten(2).transpose(1, 2))
    return torch.cat(inputs, 1)


def _inputs(maps, codes, groups, phi, bridge, down="area", single=False, alone=False, old=False, own=False, last=False):
    sides, f_hat, parts = _sides(groups), 0, []
    for k, p in enumerate(sides if last else sides[:-1]):
        after = min(k + 1, len(sides) - 1)
        here, there = (sides[-1],) * 2 if single else (canvas(k, groups), canvas(after, groups))
        h = phi(enlarged(maps[k], codes, p, here), k)
        f_hat = h if alone else f_hat + h
        seen = f_hat
        if here != there:
            f_hat = bridge(f_hat, (there, there))
        size = p if own else sides[after]
        parts.append(F.interpolate(seen if old else f_hat, size=(size, size), mode=down).flatten(2).mT)
    return torch.cat(parts, 1)


@sheet.exercise(3, 30, next_inputs)
def _next_inputs():
    """Within a group it is chapter 04's. What changes between map 5 and map 6?

    Within a group it is chapter 04's. At a border, the next map belongs to a larger canvas: bring f_hat there first,
    over the bridge, then shrink it to the map's size.
    """
    cases = [
        ([torch.randint(40, (b, p * p)) for p in _sides(g)], torch.randn(40, 4), g, some_phi, some_bridge)
        for b, g in enumerate(GROUPS, 1)
    ]
    mistakes = {
        "f_hat starts again at zero with every group; it must go on, over the bridge.": (
            lambda m, e, g, phi, bridge: _inputs(m, e, g, phi, _from_zero)
        ),
        "the bridge is not used; it carries f_hat to the size of the next group.": (
            lambda m, e, g, phi, bridge: _inputs(m, e, g, phi, _bicubic)
        ),
        "phi is not used; every enlarged map passes through it.": (
            lambda m, e, g, phi, bridge: _inputs(m, e, g, _no_phi, bridge)
        ),
        "at a border the input is made on the old canvas; enlarge f_hat first.": partial(_inputs, old=True),
        "one canvas for all maps is VAR's way; every group has its own canvas.": partial(_inputs, single=True),
        "that is the last map alone; the input is the sum of all maps so far.": partial(_inputs, alone=True),
        "you shrink f_hat with bicubic; take the mean over areas (mode='area').": partial(_inputs, down="bicubic"),
        "you shrink f_hat by picking pixels; take the mean over areas (mode='area').": partial(_inputs, down="nearest"),
        "one input too many: no map stands before the first.": partial(_inputs, own=True, last=True),
        "one input too many: nothing follows the last map, so it is no input.": partial(_inputs, last=True),
        "those have the sizes of the maps before; an input is as large as its map.": partial(_inputs, own=True),
    }
    return cases, mistakes
