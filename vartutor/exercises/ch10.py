"""Exercises of chapter 10."""

from functools import partial

import torch

from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch10")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def block_flops(tokens, width):
    matrices = 2 * tokens * 12 * width**2  # qkv 3, projection 1, feed-forward 4 + 4
    scores = 4 * tokens**2 * width
    return matrices + scores


def _flops(n, d, matrices=24, scores=4):
    return matrices * n * d * d + scores * n * n * d


@sheet.exercise(1, 15, block_flops)
def _block_flops():
    """Two kinds of work: matrices that meet every token, and tokens that meet each other.

    Count the weights of the four matrices in units of D². Each is used once per token, at two operations. Then
    attention: n² products of D numbers for the scores, and as many for the values.
    """
    cases = [(5, 8), (437, 192), (3154, 1024)]
    mistakes = {
        "you count the matrices' products without their sums: 2 operations each.": partial(_flops, matrices=12),
        "you count products without their sums: 2 operations each, everywhere.": partial(_flops, matrices=12, scores=2),
        "attention is missing: queries by keys, and weights by values, 4 n² D.": partial(_flops, scores=0),
        "attention has two products: queries by keys, and weights by values.": partial(_flops, scores=2),
        "only attention's products count; the matrices take 2 per weight and position.": partial(_flops, matrices=0),
        "one matrix of the feed-forward part is missing; it has two, of 4 D² each.": partial(_flops, matrices=16),
        "q, k and v have a matrix each; you count one for all.": partial(_flops, matrices=20),
        "the projection after attention is missing; it has D² weights.": partial(_flops, matrices=22),
        "the feed-forward part is missing; it has eight of the 12 D².": partial(_flops, matrices=8),
        "18 D² counts the modulation, which is left out here; the rest has 12 D².": partial(_flops, matrices=36),
        "every position uses every matrix; multiply by the number of tokens.": lambda n, d: 24 * d * d + 4 * n * n * d,
        "all tokens see all tokens: n² pairs; yours grows with n alone.": lambda n, d: 24 * n * d * d + 4 * n * d,
        "that is the work of a training step; the forward pass alone is a third of it.": lambda n, d: 3 * _flops(n, d),
    }
    return cases, mistakes


def mean_gradient(gradients, counts):
    weights = torch.as_tensor(counts, dtype=gradients[0].dtype) / sum(counts)
    return sum(w * g for w, g in zip(weights, gradients, strict=True))


@sheet.exercise(2, 20, mean_gradient)
def _mean_gradient():
    """Two processes, with one image and with three. Whose mean should count more?

    The gradient of the whole batch is the sum over all images, divided by their number. A process's mean times its
    count is its sum.
    """
    counts = [2, 1], [4, 2, 7], [3, 3, 3, 3], [5, 1, 2, 9], [6]
    cases = [([torch.randn(2, n) for _ in c], c) for n, c in enumerate(counts, 1)]
    mistakes = {
        "that is the sum; divide, or the step grows with every process.": lambda g, c: sum(g),
        "that is the plain mean; a process with more images must count for more.": lambda g, c: sum(g) / len(g),
        "each gradient is a mean over its images already; weigh it by its count before you divide by all images.": (
            lambda g, c: sum(g) / sum(c)
        ),
        "you divide each gradient by its count; multiply, for a process with more images must count for more.": (
            lambda g, c: sum(x / n for x, n in zip(g, c, strict=True)) / sum(c)
        ),
        "more images count for less; turn that round.": lambda g, c: mean_gradient(g, [1 / n for n in c]),
        "the weighted sum is not divided by the number of all images.": lambda g, c: mean_gradient(g, c) * sum(c),
        "the weighted sum is divided by the number of processes; divide by that of all images.": (
            lambda g, c: mean_gradient(g, c) * sum(c) / len(c)
        ),
        "that is the gradient of the process with the most images alone.": lambda g, c: g[c.index(max(c))],
    }
    return cases, mistakes


def fit_law(sizes, losses):
    N, L = torch.as_tensor(sizes).double(), torch.as_tensor(losses).double()
    best = (torch.inf,)
    for alpha in torch.linspace(0.05, 1, 191):
        X = torch.stack([torch.ones_like(N), N**-alpha], 1)
        E, A = torch.linalg.lstsq(X, L[:, None]).solution[:, 0]
        error = (E + A * N**-alpha - L).square().sum()
        if error < best[0]:
            best = (error, E.item(), A.item(), alpha.item())
    return best[1:]


def _line(sizes, losses, base=0.0):
    """The straight line through log size and log (loss - base)."""
    x, y = torch.tensor(sizes).double().log(), (torch.tensor(losses).double() - base).log()
    alpha = -(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()
    return base, (y.mean() + alpha * x.mean()).exp().item(), alpha


def _near(got, right):
    """Close enough for a search in steps of a hundredth, which leaves A, the largest of the three, least certain."""
    return abs(got - right) < 0.01 + (0.08 if right > 5 else 0.02) * abs(right)


@sheet.exercise(3, 40, fit_law, parts=("E", "A", "alpha"), agree=_near)
def _fit_law():
    """If somebody told you α, how hard would E and A be?

    For a given α the law is linear in E and A: torch.linalg.lstsq with the columns 1 and N^-α. Go through many α
    between 0 and 1, and keep the one with the smallest squared error. Work in float64.
    """
    sizes = [2.6e5, 6.6e5, 1.4e6, 4.3e6, 1.2e7]
    laws = ((3.87, 20.3, 0.23), (2.53, 61.7, 0.41), (1.24, 903.1, 0.76), (2.96, 5.6, 0.12))
    cases = [(sizes, [E + A * n**-alpha for n in sizes]) for E, A, alpha in laws]
    mistakes = {
        "that is a straight line through the logarithms, without E; the curve bends, for no size gets below E.": _line,
        "that takes the smallest loss for E; E is below all losses.": lambda n, x: _line(n[:-1], x[:-1], min(x)),
        "α has the wrong sign; the loss falls as N grows, so in A N^-α it is positive.": (
            lambda n, x: (*fit_law(n, x)[:2], -fit_law(n, x)[2])
        ),
        "A comes first in yours; the order is E, A, α.": lambda n, x: [fit_law(n, x)[k] for k in (1, 0, 2)],
        "α comes first in yours; the order is E, A, α.": lambda n, x: fit_law(n, x)[::-1],
        "A is still a logarithm; take exp.": (
            lambda n, x: (fit_law(n, x)[0], torch.tensor(fit_law(n, x)[1]).log().item(), fit_law(n, x)[2])
        ),
        "that is α alone; return three numbers: E, A and α.": lambda n, x: fit_law(n, x)[2],
    }
    return cases, mistakes
