"""Exercises of chapter 09."""

import numpy as np

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch09")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def differences(ours, theirs):
    return [np.mean(values) - np.mean(theirs[photo]) for photo, values in ours.items() if photo in theirs]


@sheet.exercise(1, differences)
def _test_differences(answer) -> None:
    """Loop over the photos of `ours`; skip what `theirs` has not; a mean on each side."""
    ours = {"sea": [4.0, 6.0], "moss": [1.0], "owl": [7.0, 7.0, 10.0], "gate": [3.0]}
    theirs = {"owl": [2.0], "sea": [1.0, 1.0, 4.0], "moss": [3.0, 4.0], "kite": [9.0]}
    got = list(map(float, answer(dict(ours), dict(theirs))))
    right = differences(ours, theirs)
    require(len(got) == len(right), f"three photos are on both sides; you return {len(got)} numbers")
    require(not np.allclose(got, [-x for x in right]), "ours minus theirs, not the other way round")
    require(
        not np.allclose(sorted(got), sorted(ours[p][0] - theirs[p][0] for p in ("sea", "moss", "owl"))),
        "that is the first seed alone: take the mean over seeds",
    )
    require(
        not np.allclose(got, [sum(ours[p]) - sum(theirs[p]) for p in ("sea", "moss", "owl")]),
        "those are sums over seeds, and the sides have different numbers of them: take means",
    )
    require(not np.allclose(sorted(got), sorted(right)) or np.allclose(got, right), "keep the order of `ours`")
    require(np.allclose(got, right), f"expected {right}, got {got}")


def interval(values, chosen, level):
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return low, high


@sheet.exercise(2, interval)
def _test_interval(answer) -> None:
    """values[chosen] is (R, N): a row per resample. Means, then np.quantile at (1 - level) / 2 from each end."""
    generator = np.random.default_rng(3)
    values = generator.exponential(size=12)
    chosen = generator.integers(12, size=(500, 12))
    got = answer(values, chosen, 0.9)
    require(np.shape(got) == (2,), "return two numbers: low and high")
    require(got[0] < got[1], "low comes first")
    right = interval(values, chosen, 0.9)
    wrong = {
        "those are quantiles of the values; take means of the resampled photos first": np.quantile(
            values[chosen], [0.05, 0.95]
        ),
        "those are means over the resamples, of each place; the mean belongs over a row of `chosen`": np.quantile(
            values[chosen].mean(axis=0), [0.05, 0.95]
        ),
        "`level` is what lies between: half of the rest lies on each side": np.quantile(
            values[chosen].mean(axis=1), [0.1, 0.9]
        ),
        "let `level` decide; that is 95 %": np.quantile(values[chosen].mean(axis=1), [0.025, 0.975]),
    }
    for diagnosis, mistake in wrong.items():
        require(not np.allclose(got, mistake), diagnosis)
    require(np.allclose(got, right), f"expected {right}, got {tuple(got)}")


def _beats(a, b):
    return a != b and a[0] >= b[0] and a[1] <= b[1]


def front(points):
    return {name for name, p in points.items() if not any(_beats(q, p) for q in points.values())}


@sheet.exercise(3, front)
def _test_front(answer) -> None:
    """For each point, ask whether any other is at least as good in both, and not the same point."""
    points = {"a": (30.0, 0.5), "b": (28.0, 0.2), "c": (27.0, 0.3), "d": (30.0, 0.6), "e": (25.0, 0.1)}
    got, right = set(answer(dict(points))), front(points)
    require(got - set(points) == set(), "return names of the points")
    require("c" not in got, "c is on it, though b has more PSNR and less distance")
    require("d" not in got, "d is on it: a has the same PSNR and less distance, and being better in one is enough")
    require(got != {"a"}, "that is the best in PSNR alone; b and e are closer to the eye than a")
    require(got == right, f"expected {sorted(right)}, got {sorted(got)}")
    twins = {"a": (30.0, 0.5), "b": (30.0, 0.5), "c": (29.0, 0.6)}
    require(set(answer(dict(twins))) == {"a", "b"}, "two equal points do not beat each other: both stay")
