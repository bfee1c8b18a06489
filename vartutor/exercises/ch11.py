"""Exercises of chapter 11."""

from functools import partial

import torch

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch11")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def rounds(batch, gpus, largest):
    k = 1
    while batch % (gpus * k) or batch // (gpus * k) > largest:
        k += 1
    return k


def _say_rounds(got, right, batch, gpus, largest):
    if got < 1 or batch % (gpus * got):
        return f"With rounds = {got}, {batch} images do not divide evenly among {gpus} GPUs and the rounds."
    if batch // (gpus * got) > largest:
        return f"With rounds = {got}, a GPU gets {batch // (gpus * got)} images at once, more than {largest}."
    return "Fewer rounds are enough, and more waste time."


@sheet.exercise(1, 10, rounds, explain=_say_rounds)
def _rounds():
    """With one round, how many images does each GPU get? What may be wrong with that number?

    Try 1, 2, 3 … rounds. A GPU then gets batch / (gpus × rounds) images at once: that must be whole, and at most
    `largest`.
    """
    cases = [(24, 2, 4), (384, 8, 48), (384, 8, 9), (96, 4, 7), (60, 2, 29), (100, 2, 14), (60, 3, 3)]
    mistakes = {
        "that rounds up, but rounds may then be unequal; try larger numbers.": lambda b, g, n: -(-b // (g * n)),
        "that rounds down, so that a GPU may get too many at once.": lambda b, g, n: b // (g * n),
        "that is one image per GPU and round; a GPU takes up to `largest` at once.": lambda b, g, n: b // g,
        "the GPUs are left out: all of them take images in every round.": lambda b, g, n: rounds(b, 1, n),
        "that is the images per GPU and round; return the number of rounds.": (
            lambda b, g, n: b // (g * rounds(b, g, n))
        ),
        "a GPU may take `largest` images, and you ask for fewer.": lambda b, g, n: rounds(b, g, n - 1),
        "you return a fraction; try 1, 2, 3 … rounds.": lambda b, g, n: b / (g * n),
    }
    return cases, mistakes


def price(flops, steps, gpus, peak, utilisation, price):
    hours = steps * flops / (gpus * peak * utilisation) / 3600
    return hours, hours * gpus * price


def _bill(flops, steps, gpus, peak, utilisation, price, hours=lambda h, g, u: h, dollars=lambda h, g, p: h * g * p):
    h = hours(steps * flops / (gpus * peak * utilisation) / 3600, gpus, utilisation)
    return h, dollars(h, gpus, price)


@sheet.exercise(2, 15, price, parts=("hours", "dollars"))
def _price():
    """How many operations is the whole run, and how many do all GPUs do in a second?

    Together the GPUs do gpus × peak × utilisation per second. Steps × FLOPs by that are seconds. The bill is hours ×
    GPUs × price.
    """
    cases = [(3.6e15, 1000, 8, 1e15, 0.5, 2.0), (2e14, 70_000, 3, 3e14, 0.35, 1.7), (3e14, 7, 24, 1e15, 0.4, 0.6)]
    mistakes = {
        "the time is in seconds; divide by 3600.": partial(_bill, hours=lambda h, g, u: h * 3600),
        "the time is in minutes; divide by 3600, not by 60.": partial(_bill, hours=lambda h, g, u: h * 60),
        "that is the time of one GPU; they share the work.": partial(_bill, hours=lambda h, g, u: h * g),
        "you multiply by the share; a GPU that reaches half of its peak takes twice as long.": (
            partial(_bill, hours=lambda h, g, u: h * u * u)
        ),
        "the share of the peak is missing.": partial(_bill, hours=lambda h, g, u: h * u),
        "the bill is for one GPU; every GPU costs its price.": partial(_bill, dollars=lambda h, g, p: h * p),
        "the hours are left out of the bill.": partial(_bill, dollars=lambda h, g, p: g * p),
        "the price is left out of the bill.": partial(_bill, dollars=lambda h, g, p: h * g),
        "dollars come before hours.": lambda *a: price(*a)[::-1],
        "that is one number; return two: hours and dollars.": lambda *a: price(*a)[0],
        "that is the bill alone; return two numbers: hours and dollars.": lambda *a: price(*a)[1],
    }
    return cases, mistakes


def shares(step, batch, rounds, size, rank):
    own = batch // (rounds * size)
    begins = [step * batch + k * (batch // rounds) + rank * own for k in range(rounds)]
    return [list(range(begin, begin + own)) for begin in begins]


def _all_ranks(answer, step, batch, rounds, size):
    """The lengths of the lists of each process, and all their numbers, sorted: any fair share is right."""
    found = [answer(step, batch, rounds, size, rank) for rank in range(size)]
    lists = all(isinstance(part, (list, tuple, range)) for own in found for part in own)
    require(lists, "the result should be a list of lists: one list of numbers per round")
    numbers = sorted(int(n) for own in found for part in own for n in part)
    return [[len(part) for part in own] for own in found], torch.tensor(numbers)


def _say_photos(got, right, step, batch, rounds, size):
    photos, times = got[1].unique(return_counts=True)
    if size > 1 and times.min() == size:
        return "Every process reads the same photos: its rank must decide."
    if rounds > 1 and times.min() == rounds:
        return "Every round reads the same photos: each needs others."
    if times.max() > 1:
        return f"Photo {photos[times > 1][0]} is read {times.max()} times in one step."
    owned = f"{step * batch} to {(step + 1) * batch - 1}"
    return f"Step {step} owns the numbers {owned}, and yours reads {photos.min()} to {photos.max()}."


def _cut(step, batch, rounds, size, rank):
    return shares(step, batch, 1, size, rank)[0]


@sheet.exercise(
    3, 30, shares, run=_all_ranks, parts=("the lengths of the lists", "the photos of the step"), explain=_say_photos
)
def _shares():
    """Write down the photos of step 0 for two processes and two rounds. Which numbers must step 1 begin with?

    Step s owns the numbers from s × batch to (s + 1) × batch. Cut that range into rounds, and every round into
    processes.
    """
    cases = [(1, 6, 1, 2), (0, 8, 2, 1), (3, 24, 2, 3), (2, 16, 4, 2), (7, 30, 3, 5)]
    mistakes = {
        "that is one list for the whole step; return one per round.": lambda s, b, r, n, k: [_cut(s, b, r, n, k)],
        "every process gets the numbers of all; share them.": lambda s, b, r, n, k: shares(s, b, r, 1, 0),
        "every round has the numbers of the whole step; share them.": lambda s, b, r, n, k: [_cut(s, b, r, n, k)] * r,
        "rounds are counted as steps: a step takes `batch` photos in all its rounds together.": (
            lambda s, b, r, n, k: [_cut(s * r + j, b, r, n, k) for j in range(r)]
        ),
        "processes and rounds are exchanged: one list per round, each with this process's numbers.": (
            lambda s, b, r, n, k: shares(s, b, n, r, k % r)
        ),
    }
    return cases, mistakes
