"""Typical wrong answers of chapter 03: (exercise, answer, part of the diagnosis)."""

import itertools
import math

import torch

from vartutor.exercises.ch03 import beam_search, gap_to_bound, residual_quantize


def walk(z, books, step, pick=torch.argmin):
    rest, indices = z, []
    for codes in books:
        indices.append(pick(torch.cdist(rest, codes), 1))
        rest = step(rest, codes[indices[-1]])
    return torch.stack(indices, 1)


def gap(d, m, v, c, rate=None, factor=10, exponent=2, log=math.log10):
    return factor * log(d / 2 ** (-exponent * (m * math.log2(v) / c if rate is None else rate)))


def search(z, books, beam, keep, error=lambda z, rest, code: rest.square().sum(), last=0):
    paths = [([], z, z)]
    for codes in books:
        longer = [([*idx, j], rest - e, e) for idx, rest, _ in paths for j, e in enumerate(codes)]
        paths = keep(sorted(longer, key=lambda p: float(error(z, p[1], p[2]))), beam)
    return paths[last][0]


def best(paths, beam):
    return paths[:beam]


def all_sums(z, books, beam):
    choices = itertools.product(*[range(len(codes)) for codes in books])
    return min(choices, key=lambda c: float((z - sum(b[j] for b, j in zip(books, c, strict=True))).square().sum()))


def in_place(z, books):
    rest, indices = z, []
    for codes in books:
        indices.append(torch.cdist(rest, codes).argmin(1))
        rest -= codes[indices[-1]]
    return torch.stack(indices, 1)


def per_path(z, books, beam):
    """Every path keeps its own best few, so their number grows."""
    paths = [([], z)]
    for codes in books:
        longer = []
        for idx, rest in paths:
            order = (rest - codes).square().sum(1).argsort()[:beam]
            longer += [([*idx, int(j)], rest - codes[j]) for j in order]
        paths = longer
    return min(paths, key=lambda path: float(path[1].square().sum()))[0]


def summed(z, books, beam):
    paths = [(0.0, [], z)]
    for codes in books:
        longer = [(e + float((r - c).square().sum()), [*i, j], r - c) for e, i, r in paths for j, c in enumerate(codes)]
        paths = sorted(longer, key=lambda path: path[0])[:beam]
    return paths[0][1]


WRONG = [
    ("residual_quantize", lambda z, b: walk(z, b, lambda rest, code: rest), "looks at z itself"),
    ("residual_quantize", lambda z, b: walk(z, b, lambda rest, code: z - code), "subtract from z every time"),
    ("residual_quantize", lambda z, b: walk(z, b, lambda rest, code: code), "gets the code"),
    ("residual_quantize", lambda z, b: walk(z, b, lambda rest, code: rest + code), "subtract it"),
    ("residual_quantize", lambda z, b: walk(z, b, torch.sub, torch.argmax), "argmin, not argmax"),
    ("residual_quantize", lambda z, b: residual_quantize(z, b).T, "one row per vector please"),
    ("residual_quantize", lambda z, b: list(residual_quantize(z, b).T), "return one tensor"),
    ("residual_quantize", lambda z, b: residual_quantize(z, b).float(), "whole numbers"),
    ("residual_quantize", lambda z, b: torch.cdist(z, b[0]).argmin(1)[:, None].expand(-1, len(b)), "the first one"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c, m * math.log2(v)), "bits per number"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, 1, v, c), "rate of one stage"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c, m * v / c), "not V"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c, math.log2(m * v) / c), "M log2(V) bits"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c, m * math.log(v) / c), "to base 2"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c, exponent=1), "quarters the squared error"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c, factor=20), "squared already"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c, log=math.log), "base 10"),
    ("gap_to_bound", lambda *a: -gap_to_bound(*a), "upside down"),
    ("gap_to_bound", lambda d, m, v, c: d - 2 ** (-2 * m * math.log2(v) / c), "that is a difference"),
    ("gap_to_bound", lambda d, *a: 10 * math.log10(d), "now compare it"),
    ("beam_search", lambda z, b, beam: beam_search(z, b, 1), "that is greedy"),
    ("beam_search", lambda z, b, beam: beam_search(z, b, 3), "that beam is 3"),
    ("beam_search", all_sums, "full search"),
    ("beam_search", lambda z, b, beam: search(z, b, beam, best, last=-1), "worst of the kept"),
    ("beam_search", lambda z, b, beam: search(z, b, beam, lambda p, n: p[-n:], last=-1), "farthest sums"),
    (
        "beam_search",
        lambda z, b, beam: search(z, b, beam, best, lambda z, rest, code: (z - code).square().sum()),
        "last code alone",
    ),
    ("beam_search", lambda z, b, beam: beam_search(z, b, beam)[::-1], "back to front"),
    ("beam_search", lambda z, b, beam: beam_search(z, b, beam)[-1:], "one code for each stage"),
    ("residual_quantize", in_place, "you changed your input z"),
    ("residual_quantize", lambda z, b: torch.stack([torch.cdist(z, b[0]).argmin(0)] * 3, 1), "shape (2, 3), and is"),
    ("residual_quantize", lambda z, b: walk(z, b, lambda rest, code: code - rest), "sign of the rest"),
    ("gap_to_bound", lambda d, m, v, c: gap(d, m, v, c) * math.nan, "holds nan"),
    ("beam_search", per_path, "best `beam` of each path"),
    ("beam_search", summed, "you add up the errors of all stages"),
]
