"""Exercises of chapter 00."""

from functools import partial

import torch
import torch.nn.functional as F

from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch00")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def count_tokens(patch_nums):
    return sum(p * p for p in patch_nums)


@sheet.exercise(1, 5, count_tokens)
def _count_tokens():
    """How many tokens has a map of 3 × 3? And two maps together?

    A map of side p is a square of tokens: p * p. Add them up over the ladder.
    """
    cases = [((1, 2),), ((2, 2, 3),), ((1, 2, 3, 4, 5, 6, 8, 10, 13, 16),)]
    mistakes = {
        "you added the sides; a map of side p has p * p tokens.": sum,
        "that is the last map alone; the model predicts every map of the ladder.": lambda p: p[-1] ** 2,
        "that counts the maps; a map of side p has p * p tokens.": len,
        "you squared the sum of the sides; square each side first, then add.": lambda p: sum(p) ** 2,
        "the first map is left out; it counts too.": lambda p: count_tokens(p[1:]),
        "the last map is left out; it counts too.": lambda p: count_tokens(p[:-1]),
        "equal sides are counted once; a side that stands twice counts twice.": lambda p: count_tokens(set(p)),
    }
    return cases, mistakes


def to_pixels(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _levels(x, factor=127.5, shift=1.0, whole=torch.round, ends=(0, 255)):
    return whole((x + shift) * factor).clamp(*ends).to(torch.uint8)


def _stretched(x):
    return ((x - x.min()) / (x.max() - x.min()) * 255).round().to(torch.uint8)


@sheet.exercise(2, 15, to_pixels)
def _to_pixels():
    """Where must -1 land, and where 1? And what should become of 1.2?

    Four steps: shift and scale, round, clamp, convert. The conversion must come last.
    """
    cases = [
        (torch.tensor([-1.0, -0.45, 0.251, 1.0]),),
        (torch.tensor([-1.2, 0.39, 1.1]),),
        (torch.rand(2, 3, 5, 4) * 1.3 - 0.7,),  # reaches neither end
        (torch.randn(1, 3, 6, 5),),
    ]
    mistakes = {
        "the fraction is cut off, which darkens by half a level; round first.": partial(_levels, whole=torch.floor),
        "you rounded up, which brightens; the nearest level may be below.": partial(_levels, whole=torch.ceil),
        "values outside [-1, 1] wrap round, and dark pixels become bright; clamp before the conversion.": (
            partial(_levels, ends=(-1e9, 1e9))
        ),
        "you stretch the smallest value to 0 and the largest to 255; only -1 is 0, and only 1 is 255.": _stretched,
        "that is for values in [0, 1]; here -1 must become 0, so add 1 first.": partial(_levels, factor=255, shift=0),
        "the 1 is missing; -1 must become 0, so add 1 first.": partial(_levels, shift=0),
        "you multiplied by 128; the largest level is 255, so half of it is 127.5.": partial(_levels, factor=128),
        "256 equal parts do not have the levels in their middles; multiply by 127.5, and round.": (
            partial(_levels, factor=128, whole=torch.floor)
        ),
    }
    return cases, mistakes


def coarse_to_fine(x, sizes):
    parts, rest = [], x
    for p in sizes:
        part = F.interpolate(rest, size=(p, p), mode="area")
        rest = rest - F.interpolate(part, size=x.shape[-2:], mode="bicubic")
        parts.append(part)
    return parts


def _maps(x, sizes, down="area", up="bicubic", wide=False, go_on=lambda x, rest, h: rest - h):
    parts, rest = [], x
    for p in sizes:
        small = F.interpolate(rest, size=(p, p), mode=down)
        h = F.interpolate(small, size=x.shape[-2:], mode=up)
        rest = go_on(x, rest, h)
        parts.append(h if wide else small)
    return parts


@sheet.exercise(3, 20, coarse_to_fine)
def _coarse_to_fine():
    """Do it by hand for sizes 1 and 2: after the first map, what is left of the photo to say?

    Keep a variable rest. In each step shrink rest with F.interpolate(mode='area'), store the small map, enlarge it
    with mode='bicubic' and subtract it from rest.
    """
    cases = [
        (torch.rand(b, 3, s[-1], s[-1]) * 2 - 1, s) for b, s in ((1, (1, 2, 4)), (2, (2, 3, 12)), (1, (1, 2, 8, 16)))
    ]
    mistakes = {
        "every map shrinks the photo itself; shrink what is left of it.": partial(_maps, go_on=lambda x, rest, h: x),
        "you subtract from the photo each time; subtract from the rest, so that earlier maps stay subtracted.": (
            partial(_maps, go_on=lambda x, rest, h: x - h)
        ),
        "you go on with the enlarged map; go on with what it leaves over.": partial(_maps, go_on=lambda x, rest, h: h),
        "the enlarged map is added to the rest; subtract it.": partial(_maps, go_on=lambda x, rest, h: rest + h),
        "you store the enlarged maps; store the small ones, enlarge what you subtract.": partial(_maps, wide=True),
        "you pick single pixels; maps are mean colours, so mode='area'.": partial(_maps, down="nearest"),
        "you shrink with bilinear; maps are mean colours, so mode='area'.": partial(_maps, down="bilinear"),
        "you shrink with bicubic; maps are mean colours, so mode='area'.": partial(_maps, down="bicubic"),
        "you enlarge by repeating pixels; enlarge with mode='bicubic'.": partial(_maps, up="nearest"),
        "you enlarge with bilinear; enlarge with mode='bicubic'.": partial(_maps, up="bilinear"),
    }
    return cases, mistakes
