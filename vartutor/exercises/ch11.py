"""Exercises of chapter 11."""

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch11")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def rounds(batch, gpus, largest):
    k = 1
    while batch % (gpus * k) or batch // (gpus * k) > largest:
        k += 1
    return k


@sheet.exercise(1, rounds)
def _test_rounds(answer) -> None:
    """Try 1, 2, 3 … rounds. A GPU then gets batch / (gpus × rounds) images at once: that must be whole, and at most
    `largest`."""
    for batch, gpus, largest in ((384, 8, 12), (384, 8, 9), (384, 8, 48), (96, 4, 7), (60, 2, 29), (100, 2, 14)):
        got, right = answer(batch, gpus, largest), rounds(batch, gpus, largest)
        call = f"rounds({batch}, {gpus}, {largest})"
        require(isinstance(got, int) and not isinstance(got, bool), f"{call}: return a whole number")
        require(got >= 1, f"{call}: at least one round")
        require(batch % (gpus * got) == 0, f"{call}: with {got} rounds, the images do not divide evenly")
        require(
            batch // (gpus * got) <= largest,
            f"{call}: with {got} rounds a GPU gets {batch // (gpus * got)} images at once, more than {largest}",
        )
        require(got == right, f"{call}: {right} rounds are enough, not {got}; more rounds waste time")


def price(flops, steps, gpus, peak, utilisation, price):
    hours = steps * flops / (gpus * peak * utilisation) / 3600
    return hours, hours * gpus * price


@sheet.exercise(2, price)
def _test_price(answer) -> None:
    """Together the GPUs do gpus × peak × utilisation per second. Steps × FLOPs by that are seconds. The bill is hours ×
    GPUs × price."""
    call = (3.6e15, 1000, 8, 1e15, 0.5, 2.0)
    got, (hours, dollars) = answer(*call), price(*call)
    require(isinstance(got, (tuple, list)) and len(got) == 2, "return two numbers: hours, dollars")
    near = lambda a, b: abs(a - b) <= 1e-6 * abs(b)  # noqa: E731
    require(not near(got[0], hours * 3600), "the time is in seconds: divide by 3600")
    require(not near(got[0], hours * 8), "the GPUs share the work: divide by their number")
    require(not near(got[0], hours / 4), "a GPU that reaches half of its peak takes twice as long: divide by the share")
    require(not near(got[0], hours / 2), "the share of the peak is missing")
    require(near(got[0], hours), f"the hours are {got[0]:g}, expected {hours:g}")
    require(not near(got[1], dollars / 8), "every GPU costs its price: times their number")
    require(near(got[1], dollars), f"the dollars are {got[1]:g}, expected {dollars:g}")


def shares(step, batch, rounds, size, rank):
    own = batch // (rounds * size)
    begins = [step * batch + k * (batch // rounds) + rank * own for k in range(rounds)]
    return [list(range(begin, begin + own)) for begin in begins]


@sheet.exercise(3, shares)
def _test_shares(answer) -> None:
    """Step s owns the numbers from s × batch to (s + 1) × batch. Cut that range into rounds, and every round into
    processes."""
    got = answer(1, 24, 2, 2, 1)
    require(
        isinstance(got, (list, tuple)) and len(got) == 2 and all(isinstance(r, (list, tuple)) for r in got),
        "return one list of numbers per round",
    )
    require(all(len(r) == 6 for r in got), "24 images, 2 rounds, 2 processes: 6 numbers in every list")
    for step, batch, rounds, size in ((0, 24, 1, 2), (3, 24, 2, 3), (2, 16, 4, 2), (5, 8, 2, 1)):
        where = f"step {step}, batch {batch}, {rounds} rounds, {size} processes"
        found = [n for rank in range(size) for r in answer(step, batch, rounds, size, rank) for n in r]
        require(len(set(found)) > len(found) // size or size == 1, f"{where}: every process reads the same photos")
        require(len(set(found)) > len(found) // rounds or rounds == 1, f"{where}: every round reads the same photos")
        require(len(set(found)) == len(found), f"{where}: a photo is read twice")
        expected = set(range(step * batch, (step + 1) * batch))
        require(
            set(found) == expected,
            f"{where}: read {min(found)} to {max(found)}, but step {step} owns {min(expected)} to {max(expected)}",
        )
