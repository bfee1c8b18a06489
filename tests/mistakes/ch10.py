"""Typical wrong answers of chapter 10: (exercise, answer, part of the diagnosis)."""

import numpy as np

from vartutor.exercises.ch10 import block_flops, fit_law, mean_gradient


def straight_line(sizes, losses):
    slope, start = np.polyfit(np.log(sizes), np.log(losses), 1)
    return 0.0, float(np.exp(start)), float(-slope)


def fixed_exponent(sizes, losses, alpha=0.1):
    A, E = np.polyfit(np.array(sizes) ** -alpha, losses, 1)
    return E, A, alpha


WRONG = [
    ("block_flops", lambda n, d: 12 * n * d * d + 2 * n * n * d, "two operations"),
    ("block_flops", lambda n, d: 12 * n * d * d + 4 * n * n * d, "two operations"),
    ("block_flops", lambda n, d: 24 * n * d * d, "4 n² D"),
    ("block_flops", lambda n, d: 24 * n * d * d + 2 * n * n * d, "two products"),
    ("block_flops", lambda n, d: 4 * n * n * d, "only the scores"),
    ("block_flops", lambda n, d: 18 * n * d * d + 4 * n * n * d, "12 D² in all"),
    ("block_flops", lambda n, d: 24 * d * d + 4 * n * n * d, "number of tokens"),
    ("block_flops", lambda n, d: 3 * block_flops(n, d), "expected"),
    ("mean_gradient", lambda g, c: sum(g), "that is the sum"),
    ("mean_gradient", lambda g, c: sum(g) / sum(c), "once more"),
    ("mean_gradient", lambda g, c: sum(g) / len(g), "count for more"),
    ("mean_gradient", lambda g, c: mean_gradient(g, [1 / x for x in c]), "not the fewer"),
    ("mean_gradient", lambda g, c: sum(g).sum(), "of the shape"),
    ("fit_law", straight_line, "without E"),
    ("fit_law", lambda n, x: (*fit_law(n, x)[:2], -fit_law(n, x)[2]), "α is positive"),
    ("fit_law", lambda n, x: (fit_law(n, x)[1], fit_law(n, x)[0], fit_law(n, x)[2]), "E comes first"),
    ("fit_law", fixed_exponent, "try many α"),
    ("fit_law", lambda n, x: fit_law(n, x)[2], "three numbers"),
]
