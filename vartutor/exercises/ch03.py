"""Exercises of chapter 03."""

import math
from functools import partial

import torch

from vartutor.exercises.ch02 import SCORES, distances
from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch03")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def residual_quantize(z, books):
    rest, indices = z, []
    for codes in books:
        idx = torch.cdist(rest, codes).argmin(1)
        rest = rest - codes[idx]
        indices.append(idx)
    return torch.stack(indices, dim=1)


def _walk(z, books, go_on=lambda z, rest, code: rest - code, score=distances):
    rest, indices = z, []
    for codes in books:
        indices.append(score(rest, codes).argmin(1))
        rest = go_on(z, rest, codes[indices[-1]])
    return torch.stack(indices, dim=1)


def _books(stages, size, dim):
    return [scale * torch.randn(size, dim) for scale in 0.6 ** torch.arange(stages)]


@sheet.exercise(1, 10, residual_quantize)
def _residual_quantize():
    """What does the second stage look at? Write down what each stage gets, and what it hands on.

    Start with rest = z. In a loop over the books: distances with torch.cdist(rest, codes), argmin over the codes, and
    subtract codes[idx] from rest. Stack the indices along dim=1.
    """
    cases = [(torch.randn(n, c), _books(m, v, c)) for n, c, m, v in ((2, 1, 3, 5), (70, 3, 4, 12), (40, 5, 6, 9))]
    mistakes = {
        "every stage looks at z itself; subtract each code first.": partial(_walk, go_on=lambda z, rest, code: z),
        "you subtract from z every time; the next stage must get rest - code, what all stages so far leave.": (
            partial(_walk, go_on=lambda z, rest, code: z - code)
        ),
        "the next stage gets the code, not what it leaves over.": partial(_walk, go_on=lambda z, rest, code: code),
        "the code is added to the rest; subtract it.": partial(_walk, go_on=lambda z, rest, code: rest + code),
        "the sign of the rest is turned; it is rest - code.": partial(_walk, go_on=lambda z, rest, code: code - rest),
        **{diagnosis: partial(_walk, score=score) for diagnosis, score in SCORES.items()},
        "every stage looks into the first book; each has its own.": lambda z, b: residual_quantize(z, b[:1] * len(b)),
        "all columns are the first one; later stages have to look for codes too.": (
            lambda z, b: residual_quantize(z, b[:1]).expand(-1, len(b))
        ),
        "stages stand in rows; one row per vector please, (N, M): stack along dim=1.": lambda z, b: _walk(z, b).T,
        "you return a list; return one tensor: torch.stack(list, dim=1).": lambda z, b: list(_walk(z, b).T),
    }
    return cases, mistakes


def gap_to_bound(distortion, stages, size, dim):
    rate = stages * math.log2(size) / dim
    return 10 * math.log10(distortion / 2 ** (-2 * rate))


def _gap(d, m, v, c, rate=lambda m, v, c: m * math.log2(v) / c, factor=10, exponent=2, log=math.log10):
    return factor * log(d / 2 ** (-exponent * rate(m, v, c)))


@sheet.exercise(2, 15, gap_to_bound)
def _gap_to_bound():
    """The bound needs a rate: bits for each number, not for each vector.

    How many bits name one vector? Divide by its length to get R. The bound is 2 ** (-2 * R). A ratio of squared
    errors becomes decibels by 10 log10.
    """
    cases = [(0.5, 1, 4, 3), (0.12, 3, 64, 7), (0.3, 5, 10, 24)]
    mistakes = {
        "R is bits per number; divide by the vector's length.": partial(_gap, rate=lambda m, v, c: m * math.log2(v)),
        "that is the rate of one stage; bits add up.": partial(_gap, rate=lambda m, v, c: math.log2(v) / c),
        "an index among V codes takes log2(V) bits, not V.": partial(_gap, rate=lambda m, v, c: m * v / c),
        "M stages have V^M sums, so M log2(V) bits in all.": partial(_gap, rate=lambda m, v, c: math.log2(m * v) / c),
        "bits come from the logarithm to base 2.": partial(_gap, rate=lambda m, v, c: m * math.log(v) / c),
        "the bound is 2 to the power -2R; each bit quarters the squared error.": partial(_gap, exponent=1),
        "the exponent is -2R, so the bound falls as the rate grows.": partial(_gap, exponent=-2),
        "20 log10 is for amplitudes; a distortion is squared already, so 10.": partial(_gap, factor=20),
        "decibels use the logarithm to base 10.": partial(_gap, log=math.log),
        "upside down: a distortion above the bound must give a positive gap.": partial(_gap, factor=-10),
        "that is a difference; decibels come from a ratio.": lambda d, m, v, c: d - 2 ** (-2 * m * math.log2(v) / c),
        "that is the distortion in decibels; now compare it with the bound.": lambda d, m, v, c: 10 * math.log10(d),
    }
    return cases, mistakes


def beam_search(z, books, beam):
    paths = [([], z)]
    for codes in books:
        longer = [([*idx, j], rest - codes[j]) for idx, rest in paths for j in range(len(codes))]
        longer.sort(key=lambda path: float(path[1].square().sum()))
        paths = longer[:beam]
    return paths[0][0]


def _paths(z, books, beam, keep=lambda paths, beam, codes: paths[:beam], error=lambda z, rest, e, past: _size(rest)):
    """The kept paths after all stages, best first: indices, rest, and the sum of all errors."""
    paths = [([], z, 0)]
    for codes in books:
        longer = [
            ([*idx, j], rest - e, past + _size(rest - e)) for idx, rest, past in paths for j, e in enumerate(codes)
        ]
        longer.sort(key=lambda path: error(z, path[1], codes[path[0][-1]], path[2]))
        paths = keep(longer, beam, codes)
    return paths


def _size(x):
    return float(x.square().sum())


def _per_path(paths, beam, codes):
    """The best few of each path, instead of all."""
    starts = {tuple(path[0][:-1]) for path in paths}
    return [p for start in starts for p in [q for q in paths if tuple(q[0][:-1]) == start][:beam]]


def _best(paths):
    return min(paths, key=lambda path: _size(path[1]))[0]


@sheet.exercise(3, 40, beam_search)
def _beam_search():
    """A beam is a list of unfinished paths. What must you know of a path to extend it?

    Keep a list of pairs (indices, rest). At every stage extend each pair by every code, sort all the longer ones by
    the squared length of their rest, and keep the first `beam`.
    """
    sizes = ((2, 3, 1, 2), (3, 6, 3, 3), (3, 6, 3, 1), (4, 5, 2, 2), (4, 5, 3, 4), (3, 5, 4, 7))  # M, V, C, beam
    cases = [(torch.randn(c), _books(m, v, c), n) for m, v, c, n in sizes for _ in range(4)]
    mistakes = {
        "that is greedy; keep the best `beam` paths after every stage, not one.": lambda z, b, n: beam_search(z, b, 1),
        "that is the full search; keep the best `beam` after every stage.": lambda z, b, n: beam_search(z, b, 10**6),
        "that beam is 3; use the argument `beam`.": lambda z, b, n: beam_search(z, b, 3),
        "your beam is one too small.": lambda z, b, n: beam_search(z, b, max(1, n - 1)),
        "your beam is one too large.": lambda z, b, n: beam_search(z, b, n + 1),
        "you return the worst of the kept paths; the smallest rest is best.": lambda z, b, n: _paths(z, b, n)[-1][0],
        "the farthest sums survive; sort by the error from small to large.": (
            lambda z, b, n: _paths(z, b, n, keep=lambda paths, n, e: paths[-n:])[-1][0]
        ),
        "you judge a path by its last code alone; judge it by the rest that all its codes leave.": (
            lambda z, b, n: _paths(z, b, n, error=lambda z, rest, e, past: _size(z - e))[0][0]
        ),
        "you keep the best `beam` of each path; keep the best `beam` of all paths together.": (
            lambda z, b, n: _best(_paths(z, b, n, keep=_per_path))
        ),
        "you add up the errors of all stages; only the rest at the end of a path counts.": (
            lambda z, b, n: _paths(z, b, n, error=lambda z, rest, e, past: past)[0][0]
        ),
        "the path is back to front; stage 1 first.": lambda z, b, n: beam_search(z, b, n)[::-1],
        "that is the last stage alone; return one code for each stage.": lambda z, b, n: beam_search(z, b, n)[-1:],
    }
    return cases, mistakes
