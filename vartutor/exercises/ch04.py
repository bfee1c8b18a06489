"""Exercises of chapter 04."""

from functools import partial

import torch
import torch.nn.functional as F

from vartutor.exercises.ch02 import SCORES, distances
from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch04")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def token_map(rest, codes, p):
    z = F.interpolate(rest, size=(p, p), mode="area")
    return torch.cdist(z.flatten(2).mT, codes).argmin(-1)  # (B, p p, V) -> (B, p p)


def _tokens(rest, codes, p, mode="area", score=distances, turned=False):
    z = F.interpolate(rest, size=(p, p), mode=mode).permute(0, 2, 3, 1)
    idx = score(z, codes).argmin(-1)
    return (idx.mT if turned else idx).flatten(1)


def _late(rest, codes, p):
    """Nearest codes first, means after: the token that is there most often."""
    idx = token_map(rest, codes, rest.shape[-1]).unflatten(1, rest.shape[-2:])
    side = rest.shape[-1] // p
    return idx.unfold(1, side, side).unfold(2, side, side).flatten(3).mode(-1).values.flatten(1)


@sheet.exercise(1, 10, token_map)
def _token_map():
    """Shrink first, look up then. What is the shape after each?

    F.interpolate(rest, size=(p, p), mode='area') takes the means. Flatten the places and move the channels last;
    torch.cdist compares with all codes.
    """
    sizes = ((1, 1, 4, 3, 2), (2, 5, 12, 30, 1), (2, 5, 12, 40, 4), (3, 4, 18, 40, 9))
    cases = [(torch.randn(b, c, n, n), 0.5 * torch.randn(v, c), p) for b, c, n, v, p in sizes]
    mistakes = {
        "you take one pixel of each area; take the mean over the area (mode='area').": partial(_tokens, mode="nearest"),
        "bilinear reads a few pixels; take the mean over the area (mode='area').": partial(_tokens, mode="bilinear"),
        "bicubic is for enlarging; shrink with the mean over areas (mode='area').": partial(_tokens, mode="bicubic"),
        **{diagnosis: partial(_tokens, score=score) for diagnosis, score in SCORES.items()},
        "columns before rows; flatten row by row.": partial(_tokens, turned=True),
        "that looks up every pixel first; take the means first, then the nearest codes.": _late,
        "the map is still a square; flatten it to (B, p * p).": lambda r, e, p: token_map(r, e, p).unflatten(1, (p, p)),
    }
    return cases, mistakes


def multiscale(f, codes, sides, phi):
    f_hat, rest, maps = torch.zeros_like(f), f, []
    for k, p in enumerate(sides):
        idx = token_map(rest, codes, p)
        h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
        h = phi(F.interpolate(h, size=f.shape[-2:], mode="bicubic"), k)
        f_hat, rest = f_hat + h, rest - h
        maps.append(idx)
    return maps, f_hat


def enlarged(idx, codes, p, size, mode="bicubic"):
    return F.interpolate(codes[idx].mT.unflatten(2, (p, p)), size=(size, size), mode=mode)


def some_phi(h, k):
    """In the place of a learnt convolution: another blur for every map."""
    return (0.6 + 0.1 * k) * h + 0.3 * h.roll(1, -1)


def _no_phi(h, k):
    return h


def _pyramid(
    f, codes, sides, phi, mode="bicubic", go_on=lambda f, rest, h: rest - h, f_hat=lambda f, rest, hs: sum(hs), first=0
):
    rest, maps, hs = f, [], []
    for k, p in enumerate(sides, first):
        maps.append(token_map(rest, codes, p))
        hs.append(phi(enlarged(maps[-1], codes, p, f.shape[-1], mode), k))
        rest = go_on(f, rest, hs[-1])
    return maps, f_hat(f, rest, hs)


def _raw_sum(f, codes, sides, phi):
    """f_hat adds up what comes before φ."""
    maps = multiscale(f, codes, sides, phi)[0]
    return maps, sum(enlarged(idx, codes, p, f.shape[-1]) for idx, p in zip(maps, sides, strict=True))


@sheet.exercise(2, 20, multiscale, parts=("maps", "f_hat"))
def _multiscale():
    """In every step the same map h is added somewhere and subtracted somewhere. Where?

    Keep two maps of full size: f_hat, which starts at zero, and rest, which starts at f. Every step adds the same
    thing to one and subtracts it from the other. The same thing is phi(the enlarged codes, k).
    """
    ladders = ((1, 2, (1, 2, 4)), (2, 5, (1, 4, 8, 16)), (3, 4, (2, 3, 12)))
    cases = [(torch.randn(b, c, s[-1], s[-1]), torch.randn(40, c), s, some_phi) for b, c, s in ladders]
    mistakes = {
        "phi is not used; every enlarged map passes through it.": lambda f, e, s, phi: multiscale(f, e, s, _no_phi),
        "phi gets the number of another map; they are counted from 0.": partial(_pyramid, first=1),
        "phi gets the side of the map; it wants its number, counted from 0.": (
            lambda f, e, s, phi: multiscale(f, e, s, lambda h, k: phi(h, s[k]))
        ),
        "f_hat adds up the maps before phi; it is the sum of what phi returns.": _raw_sum,
        "every map looks at f itself; subtract what the maps before it explain, and look at the rest.": (
            partial(_pyramid, go_on=lambda f, rest, h: f)
        ),
        "you subtract the last map alone from f; subtract every map from the rest of the one before.": (
            partial(_pyramid, go_on=lambda f, rest, h: f - h)
        ),
        "the next map looks at the enlarged map, not at the rest.": partial(_pyramid, go_on=lambda f, rest, h: h),
        "the enlarged map is added to the rest; subtract it.": partial(_pyramid, go_on=lambda f, rest, h: rest + h),
        "you enlarge by repeating pixels; use mode='bicubic'.": partial(_pyramid, mode="nearest"),
        "you enlarge with bilinear; use mode='bicubic'.": partial(_pyramid, mode="bilinear"),
        "that is what is left; f_hat is the sum of what was added.": partial(_pyramid, f_hat=lambda f, rest, hs: rest),
        "that is f itself; f_hat is the sum of the enlarged maps.": partial(_pyramid, f_hat=lambda f, rest, hs: f),
        "that is the last map alone; f_hat is the sum of all.": partial(_pyramid, f_hat=lambda f, rest, hs: hs[-1]),
        "that is the mean of the maps; f_hat is their sum.": (
            partial(_pyramid, f_hat=lambda f, rest, hs: sum(hs) / len(hs))
        ),
    }
    return cases, mistakes


def next_inputs(maps, codes, sides, phi):
    f_hat, inputs = 0, []
    for k, p in enumerate(sides[:-1]):  # the last map is not an input
        h = codes[maps[k]].transpose(1, 2).unflatten(2, (p, p))
        f_hat = f_hat + phi(F.interpolate(h, size=(sides[-1], sides[-1]), mode="bicubic"), k)
        small = F.interpolate(f_hat, size=(sides[k + 1], sides[k + 1]), mode="area")
        inputs.append(small.flatten(2).transpose(1, 2))
    return torch.cat(inputs, 1)


def _inputs(
    maps, codes, sides, phi, down="area", up="bicubic", alone=False, direct=False, own=False, last=False, leak=False
):
    f_hat, parts = 0, []
    for k, p in enumerate(sides if last else sides[:-1]):
        size = p if own or k + 1 == len(sides) else sides[k + 1]
        h = phi(enlarged(maps[k], codes, p, size if direct else sides[-1], up), k)
        f_hat = h if alone or direct else f_hat + h
        seen = f_hat + phi(enlarged(maps[k + 1], codes, sides[k + 1], sides[-1], up), k + 1) if leak else f_hat
        parts.append(F.interpolate(seen, size=(size, size), mode=down).flatten(2).mT)
    return torch.cat(parts, 1)


@sheet.exercise(3, 30, next_inputs)
def _next_inputs():
    """After map k you know f_hat. What does a model need to know to choose map k + 1, and at which size?

    Add up f_hat as in the pyramid. After each map but the last, shrink it to the side of the next map with
    mode='area', flatten the places, and move the channels last.
    """
    ladders = ((1, 3, (1, 2, 4)), (2, 5, (1, 4, 8, 16)), (3, 4, (2, 3, 6, 12)))
    cases = [([torch.randint(40, (b, p * p)) for p in s], torch.randn(40, c), s, some_phi) for b, c, s in ladders]
    mistakes = {
        "phi is not used; every enlarged map passes through it.": lambda m, e, s, phi: next_inputs(m, e, s, _no_phi),
        "that is the last map, straight to the next size; the input is the sum of all so far.": (
            partial(_inputs, direct=True)
        ),
        "that is the last map alone; the input is the sum of all maps so far.": partial(_inputs, alone=True),
        "the input holds the map that is to be predicted; stop the sum one map earlier.": partial(_inputs, leak=True),
        "you shrink f_hat with bicubic; take the mean over areas (mode='area').": partial(_inputs, down="bicubic"),
        "you shrink f_hat with bilinear; take the mean over areas (mode='area').": partial(_inputs, down="bilinear"),
        "you shrink f_hat by picking pixels; take the mean over areas (mode='area').": partial(_inputs, down="nearest"),
        "you enlarge by repeating pixels; use mode='bicubic'.": partial(_inputs, up="nearest"),
        "one input too many: no map stands before the first.": partial(_inputs, own=True, last=True),
        "one input too many: nothing follows the last map, so it is no input.": partial(_inputs, last=True),
        "those have the sizes of the maps before; an input is as large as its map.": partial(_inputs, own=True),
        "channels come before positions; return (B, positions, C).": lambda *a: next_inputs(*a).mT,
    }
    return cases, mistakes
