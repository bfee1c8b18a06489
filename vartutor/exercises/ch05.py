"""Exercises of chapter 05."""

import torch
import torch.nn.functional as F

from vartutor.exercises.ch04 import token_map
from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch05")
check, hint, solution = sheet.check, sheet.hint, sheet.solution

GROUPS = ((1, 2, 4), (6, 8), (12, 16))


def canvas(k, groups):
    for sides in groups:
        if k < len(sides):
            return sides[-1]
        k -= len(sides)


@sheet.exercise(1, canvas)
def _test_canvas(answer) -> None:
    """Which group does map k belong to? The features of a group are as large as its last map."""
    sides = [p for group in GROUPS for p in group]
    got = [answer(k, GROUPS) for k in range(len(sides))]
    right = [canvas(k, GROUPS) for k in range(len(sides))]
    require(got != sides, "that is the side of the map itself; it is enlarged to the features of its group")
    require(got != [16] * len(sides), "that is VAR's way: one canvas for all; in HIT every group has its own")
    require(got[:-1] != right[1:], "one map too early: maps are counted from 0")
    require(
        got != [group[0] for group in GROUPS for _ in group],
        "that is the group's first side; its features have the last",
    )
    require(got != [g for g, group in enumerate(GROUPS) for _ in group], "that is the number of the group, not a side")
    require(got == right, f"for the maps of {GROUPS} expected {right}, got {got}")


def hierarchical(features, codes, groups):
    maps, ends, f_hat = [], [], None
    for f, sides in zip(features, groups, strict=True):
        if f_hat is None:
            f_hat = torch.zeros_like(f)
        f_hat = F.interpolate(f_hat, size=f.shape[-2:], mode="bicubic")
        for p in sides:
            idx = token_map(f - f_hat, codes, p)
            h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
            f_hat = f_hat + F.interpolate(h, size=f.shape[-2:], mode="bicubic")
            maps.append(idx)
        ends.append(f_hat)
    return maps, ends


def _features():
    generator = torch.Generator().manual_seed(3)
    large = F.interpolate(torch.randn(2, 5, 4, 4, generator=generator), size=(16, 16), mode="bicubic")
    large = large + 0.5 * torch.randn(large.shape, generator=generator)
    small = [F.interpolate(large, size=(p, p), mode="area") for p in (4, 8)]
    return [*small, large], torch.randn(40, 5, generator=generator)


def _same(a, b) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.allclose(x.float(), y.float(), atol=1e-4) for x, y in zip(a, b, strict=True)
    )


@sheet.exercise(2, hierarchical)
def _test_hierarchical(answer) -> None:
    """Start from the exercise of chapter 04. Two things change: what f_hat is at the start of a group, and what the
    maps of a group look at."""
    features, codes = _features()
    maps, ends = answer(features, codes, GROUPS)
    right, right_ends = hierarchical(features, codes, GROUPS)
    shapes = [(2, p * p) for group in GROUPS for p in group]
    require(
        [tuple(m.shape) for m in maps] == shapes,
        "return first the seven maps, (B, p * p) each, then f_hat after each group",
    )

    def variant(overlap=True, mode="bicubic"):
        found, after, f_hat = [], [], None
        for f, sides in zip(features, GROUPS, strict=True):
            if f_hat is None or not overlap:
                f_hat = torch.zeros_like(f)
            f_hat = F.interpolate(f_hat, size=f.shape[-2:], mode=mode)
            part, last = _group(f, f_hat, codes, sides)
            found, f_hat = found + part, last
            after.append(f_hat)
        return found, after

    for diagnosis, wrong in {
        "every group starts from zero: let it start from the enlarged f_hat of the group before": variant(
            overlap=False
        ),
        "enlarge f_hat between the groups with mode='bicubic', not by repeating": variant(mode="nearest"),
    }.items():
        require(not _same(maps, wrong[0]), diagnosis)
    plain = _plain(features[-1], codes)
    require(not _same(maps, plain), "all maps look at the largest features: each group has features of its own")
    require(_same(maps, right), "the maps are not those of the algorithm; compare group by group")
    require(len(ends) == 3, "return f_hat after each of the three groups")
    require(_same(ends, right_ends), "the tokens are right; the f_hat after the groups are not")


def _group(f, f_hat, codes, sides):
    maps = []
    for p in sides:
        idx = token_map(f - f_hat, codes, p)
        h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
        f_hat = f_hat + F.interpolate(h, size=f.shape[-2:], mode="bicubic")
        maps.append(idx)
    return maps, f_hat


def _plain(f, codes):
    return _group(f, torch.zeros_like(f), codes, [p for group in GROUPS for p in group])[0]


def next_inputs(maps, codes, groups):
    sides = [p for group in groups for p in group]
    f_hat, inputs = None, []
    for k, (idx, p) in enumerate(zip(maps, sides, strict=True)):
        size = (canvas(k, groups),) * 2
        h = F.interpolate(codes[idx].transpose(1, 2).unflatten(2, (p, p)), size=size, mode="bicubic")
        f_hat = h if f_hat is None else f_hat + h
        if k + 1 < len(sides):
            wide = (canvas(k + 1, groups),) * 2  # the same canvas, or that of the next group
            if wide != size:
                f_hat = F.interpolate(f_hat, size=wide, mode="bicubic")
            small = F.interpolate(f_hat, size=(sides[k + 1],) * 2, mode="area")
            inputs.append(small.flatten(2).transpose(1, 2))
    return torch.cat(inputs, 1)


@sheet.exercise(3, next_inputs)
def _test_next_inputs(answer) -> None:
    """Within a group it is chapter 04's. At a border, the next map belongs to a larger canvas: bring f_hat there first,
    then shrink it to the map's size."""
    features, codes = _features()
    maps, _ = hierarchical(features, codes, GROUPS)
    got, right = answer(maps, codes, GROUPS), next_inputs(maps, codes, GROUPS)
    require(
        tuple(getattr(got, "shape", ())) == tuple(right.shape),
        f"expected shape {tuple(right.shape)}: no input for the first map",
    )

    def variant(reset=False, mode="bicubic", single=False):
        sides, f_hat, parts = [p for group in GROUPS for p in group], None, []
        for k, (idx, p) in enumerate(zip(maps, sides, strict=True)):
            size = (16,) * 2 if single else (canvas(k, GROUPS),) * 2
            h = F.interpolate(codes[idx].transpose(1, 2).unflatten(2, (p, p)), size=size, mode="bicubic")
            f_hat = h if f_hat is None else f_hat + h
            if k + 1 < len(sides):
                wide = size if single else (canvas(k + 1, GROUPS),) * 2
                if wide != size:
                    f_hat = torch.zeros(2, 5, *wide) if reset else F.interpolate(f_hat, size=wide, mode=mode)
                small = F.interpolate(f_hat, size=(sides[k + 1],) * 2, mode="area")
                parts.append(small.flatten(2).transpose(1, 2))
        return torch.cat(parts, 1)

    for diagnosis, wrong in {
        "f_hat starts again at zero with every group; it must go on, enlarged": variant(reset=True),
        "at the border of two groups, enlarge f_hat with bicubic before you shrink it": variant(mode="nearest"),
        "one canvas of 16 for all maps is VAR's way; every group has the canvas of its own features": variant(
            single=True
        ),
    }.items():
        require(not torch.allclose(got, wrong, atol=1e-5), diagnosis)
    require(torch.allclose(got, right, atol=1e-5), "right shape, wrong values: compare one map at a time")
