"""Exercises of chapter 12."""

import math
from functools import partial

import torch

from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch12")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def steps(photos, batch, epochs):
    return round(photos * epochs / batch)


@sheet.exercise(1, 10, steps)
def _steps():
    """How many images are seen in all?

    All images that are seen, by the images of a step. Round at the end, not before.
    """
    cases = [(50, 16, 7), (100, 300, 6), (30, 16, 3), (1000, 14, 3), (25_274, 384, 200)]
    mistakes = {
        "that counts images; a step takes `batch` of them.": lambda n, b, e: n * e,
        "the rest of every epoch is left out; the stream goes on, so divide at the end.": lambda n, b, e: n // b * e,
        "every epoch is rounded; the stream goes on, so round at the end.": lambda n, b, e: round(n / b) * e,
        "every epoch is rounded up; the stream goes on, so round at the end.": lambda n, b, e: -(-n // b) * e,
        "that rounds down; round to the nearest whole number.": lambda n, b, e: n * e // b,
        "that rounds up; round to the nearest whole number.": lambda n, b, e: math.ceil(n * e / b),
        "you return a fraction; round it.": lambda n, b, e: n * e / b,
        "those are the steps of one epoch; there are `epochs`.": lambda n, b, e: round(n / b),
    }
    return cases, mistakes


def middle(height, width):
    top, left = (height - 128) // 2, (width - 128) // 2
    return (top, left), (4 * top, 4 * left)


def _corners(height, width, small=lambda n: (n - 128) // 2, large=lambda n: 4 * ((n - 128) // 2)):
    return (small(height), small(width)), (large(height), large(width))


@sheet.exercise(2, 20, middle, parts=("the small corner", "the large corner"))
def _middle():
    """Take a photo of 129 pixels: how much is left over beside a crop of 128? Where does the other corner lie then?

    Find the corner in the degraded photo first; half of what is left over, rounded down. The other corner is four
    times that one.
    """
    cases = [(130, 132), (229, 131), (128, 401), (327, 128)]
    mistakes = {
        "left comes before top in yours; return (top, left).": lambda h, w: tuple(c[::-1] for c in middle(h, w)),
        "that is the middle itself, not a corner.": partial(_corners, small=lambda n: n // 2, large=lambda n: 2 * n),
        "you halve what is left over, but keep fractions; corners are whole numbers.": (
            partial(_corners, small=lambda n: (n - 128) / 2, large=lambda n: 2 * (n - 128))
        ),
        "the middles of the two photos can be up to two pixels apart; take 4 times the small corner.": (
            partial(_corners, large=lambda n: (4 * n - 512) // 2)
        ),
        "both corners are those of the degraded photo; in the clean one all is four times as far.": (
            partial(_corners, large=lambda n: (n - 128) // 2)
        ),
        "you round up; round down.": partial(
            _corners, small=lambda n: (n - 127) // 2, large=lambda n: 4 * ((n - 127) // 2)
        ),
        "that is all that is left over; half of it lies on each side.": (
            partial(_corners, small=lambda n: n - 128, large=lambda n: 4 * (n - 128))
        ),
        "the large corner comes first; the one in the degraded photo must.": lambda h, w: middle(h, w)[::-1],
        "that is one corner; return two, in the degraded photo and in the clean one.": lambda h, w: middle(h, w)[0],
        "those are four numbers; return two pairs.": lambda h, w: sum(middle(h, w), ()),
    }
    return cases, mistakes


def pull(margins, beta, total):
    photos, tokens = margins.shape
    weight = 1 if total else 1 / tokens
    M = margins.sum(1, keepdim=True) * weight
    return (-beta * torch.sigmoid(-beta * M) * weight / photos).expand_as(margins)


@sheet.exercise(3, 40, pull)
def _pull():
    """Call the loss of a photo -log σ(x). What is x, and how does one token change it?

    The derivative of -log σ(x) is -σ(-x). By the chain rule: times β, times what one token adds to M, by the number
    of photos. All tokens of a photo feel the same pull.
    """
    sizes = ((1, 2, 1.5, False), (3, 4, 0.7, False), (3, 4, 0.7, True), (5, 2, 0.3, True))
    cases = [(torch.randn(b, n), beta, total) for b, n, beta, total in sizes]
    mistakes = {
        "the sign is wrong; a larger margin lowers the loss.": lambda m, b, t: -pull(m, b, t),
        "the loss is a mean over photos; divide by their number.": lambda m, b, t: pull(m, b, t) * len(m),
        "β is missing in front; it stands outside the logistic function too.": lambda m, b, t: pull(m, b, t) / b,
        "β is missing inside the logistic function.": lambda m, b, t: pull(m / b, b, t),
        "with the mean, each token has a share of 1 / L.": lambda m, b, t: pull(m, b, t) * (1 if t else m.shape[1]),
        "σ(βM) should be σ(-βM), or 1 - σ(βM); the pull fades as the margin grows.": lambda m, b, t: pull(-m, b, t),
        "`total` has no effect; that is the gradient for the mean.": lambda m, b, t: pull(m, b, False),
        "`total` has no effect; that is the gradient for the sum.": lambda m, b, t: pull(m, b, True),
        "every token is judged by its own margin; all tokens of a photo share M.": (
            lambda m, b, t: -b * torch.sigmoid(-b * m) / len(m) * (1 if t else 1 / m.shape[1])
        ),
        "that is one number per photo; return (B, L), one per token.": lambda m, b, t: pull(m, b, t)[:, 0],
        "the numbers are right, but (B, 1); return (B, L): use expand_as.": lambda m, b, t: pull(m, b, t)[:, :1],
        "`total` means the sum, and not `total` the mean; you exchanged them.": lambda m, b, t: pull(m, b, not t),
    }
    return cases, mistakes
