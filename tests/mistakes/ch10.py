"""Typical wrong answers of chapter 10: (exercise, answer, part of the diagnosis)."""

import numpy as np

from vartutor.exercises.ch10 import block_flops, fit_law, mean_gradient


def straight_line(sizes, losses):
    slope, start = np.polyfit(np.log(sizes), np.log(losses), 1)
    return 0.0, float(np.exp(start)), float(-slope)


def fixed_exponent(sizes, losses, alpha=0.1):
    A, E = np.polyfit(np.array(sizes) ** -alpha, losses, 1)
    return E, A, alpha


def in_place(gradients, counts):
    for gradient, count in zip(gradients, counts, strict=True):
        gradient *= count / sum(counts)
    return sum(gradients)


WRONG = [
    ("block_flops", lambda n, d: 12 * n * d * d + 2 * n * n * d, "2 operations each, everywhere"),
    ("block_flops", lambda n, d: 12 * n * d * d + 4 * n * n * d, "the matrices' products without"),
    ("block_flops", lambda n, d: 24 * n * d * d, "4 n² D"),
    ("block_flops", lambda n, d: 24 * n * d * d + 2 * n * n * d, "two products"),
    ("block_flops", lambda n, d: 4 * n * n * d, "only attention's products"),
    ("block_flops", lambda n, d: 18 * n * d * d + 4 * n * n * d, "should be 8480"),
    ("block_flops", lambda n, d: 24 * d * d + 4 * n * n * d, "number of tokens"),
    ("block_flops", lambda n, d: 3 * block_flops(n, d), "training step"),
    ("mean_gradient", lambda g, c: sum(g), "that is the sum"),
    ("mean_gradient", lambda g, c: sum(g) / sum(c), "a mean over its images already"),
    ("mean_gradient", lambda g, c: sum(g) / len(g), "count for more"),
    ("mean_gradient", lambda g, c: mean_gradient(g, [1 / x for x in c]), "count for less"),
    ("mean_gradient", lambda g, c: sum(g).sum(), "should be a tensor of floats, shape (2, 1)"),
    ("fit_law", straight_line, "without E"),
    ("fit_law", lambda n, x: (*fit_law(n, x)[:2], -fit_law(n, x)[2]), "wrong sign"),
    ("fit_law", lambda n, x: (fit_law(n, x)[1], fit_law(n, x)[0], fit_law(n, x)[2]), "A comes first in yours"),
    ("fit_law", fixed_exponent, "E should be 3.87"),
    ("fit_law", lambda n, x: fit_law(n, x)[2], "three numbers"),
    ("mean_gradient", lambda g, c: sum(n * x for n, x in zip(c, g, strict=True)), "is not divided"),
    ("mean_gradient", lambda g, c: sum(n * x for n, x in zip(c, g, strict=True)) / len(c), "number of processes"),
    ("mean_gradient", in_place, "you changed your input gradients"),
    ("fit_law", lambda n, x: fit_law(n, x)[::-1], "α comes first"),
    ("fit_law", lambda n, x: (min(x), *fit_law(n, x)[1:]), "E should be 3.87"),
]
