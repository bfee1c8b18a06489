"""Exercises of chapter 09."""

from functools import partial

import numpy as np
import torch

from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch09")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def differences(ours, theirs):
    return [np.mean(values) - np.mean(theirs[photo]) for photo, values in ours.items() if photo in theirs]


def _both(ours, theirs, how=np.mean, names=lambda ours, theirs: [n for n in ours if n in theirs], after=lambda x: x):
    return after([how(ours.get(n, [0])) - how(theirs.get(n, [0])) for n in names(ours, theirs)])


@sheet.exercise(1, 10, differences)
def _differences():
    """A photo may have several seeds. What is its one value, on each side?

    Loop over the photos of `ours`; skip what `theirs` has not; a mean on each side.
    """

    def side(**seeds):
        return {name: (torch.randn(n) * 3 + 20).tolist() for name, n in seeds.items()}

    ours = {"sea": [4.0, 6.0], "moss": [1.0]}, {"sea": [1.0, 1.0, 4.0]}
    cases = [ours, (side(sea=2, moss=4, gate=1, owl=3, elk=1), side(owl=2, kite=1, elk=3, moss=3, sea=4))]
    mistakes = {
        "that is theirs minus ours; take ours minus theirs.": lambda a, b: [-x for x in differences(a, b)],
        "that is the first seed alone; take the mean over seeds.": partial(_both, how=lambda v: v[0]),
        "that is the last seed alone; take the mean over seeds.": partial(_both, how=lambda v: v[-1]),
        "that is the best seed alone; take the mean over seeds.": partial(_both, how=max),
        "that is the median over seeds; take the mean.": partial(_both, how=np.median),
        "those are sums over seeds, and the sides have different numbers of them; take means.": partial(_both, how=sum),
        "the numbers are sorted; keep the order of `ours`.": partial(_both, after=sorted),
        "that is the order of `theirs`; keep the order of `ours`.": partial(
            _both, names=lambda a, b: [n for n in b if n in a]
        ),
        "that is the order of the names; keep the order of `ours`.": partial(
            _both, names=lambda a, b: sorted(set(a) & set(b))
        ),
        "a photo that one side lacks counts as zero there; leave it out.": partial(_both, names=lambda a, b: list(a)),
        "only the seeds that both have are compared; take the mean of all on each side.": (
            lambda a, b: [np.mean([x - y for x, y in zip(a[n], b[n], strict=False)]) for n in a if n in b]
        ),
    }
    return cases, mistakes


def interval(values, chosen, level):
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return low, high


def _ends(values, chosen, level, tail=lambda level: (1 - level) / 2, means=lambda v: v.mean(axis=1)):
    return tuple(np.quantile(means(values[chosen]), [tail(level), 1 - tail(level)]))


def _normal(values, chosen, level):
    means = values[chosen].mean(axis=1)
    reach = torch.distributions.Normal(0, 1).icdf(torch.tensor((1 + level) / 2)).item() * means.std()
    return means.mean() - reach, means.mean() + reach


@sheet.exercise(2, 20, interval, parts=("low", "high"))
def _interval():
    """You do not draw here: the draws are given. What is one resampled mean?

    values[chosen] is (R, N): a row per resample. Means, then np.quantile at (1 - level) / 2 from each end.
    """
    sizes = ((3, 5, 0.5), (12, 300, 0.9), (7, 80, 0.6))
    cases = [(torch.rand(n).log().neg().numpy(), torch.randint(n, (r, n)).numpy(), level) for n, r, level in sizes]
    mistakes = {
        "those are quantiles of values; take means of the resampled photos first.": partial(_ends, means=lambda v: v),
        "those are means over the resamples, of each place; the mean belongs over a row of `chosen`.": (
            partial(_ends, means=lambda v: v.mean(axis=0))
        ),
        "that is the median of every resample; take its mean.": partial(_ends, means=lambda v: np.median(v, axis=1)),
        "1 - level is cut off on each side; `level` lies between, so half of the rest lies on each side.": (
            partial(_ends, tail=lambda level: 1 - level)
        ),
        "that is 95 %; let `level` decide.": partial(_ends, tail=lambda level: 0.025),
        "high comes before low.": lambda *a: interval(*a)[::-1],
        "that assumes a bell curve (mean ± z standard deviations); take quantiles of the resampled means.": _normal,
        "those are the smallest and the largest mean; `level` lies between.": partial(_ends, tail=lambda level: 0),
        "that is the mean of all resamples; return two numbers, low and high.": lambda v, c, level: v[c].mean(),
    }
    return cases, mistakes


def _beats(a, b):
    return a != b and a[0] >= b[0] and a[1] <= b[1]


def front(points):
    return {name for name, p in points.items() if not any(_beats(q, p) for q in points.values())}


def _unbeaten(points, beats):
    return {n for n, p in points.items() if not any(beats(q, p) for m, q in points.items() if m != n)}


def _say_points(got, right, points):
    extra, missing = sorted(got - right, key=str), sorted(right - got)
    if extra and extra[0] in points:
        better = next(n for n, p in points.items() if _beats(p, points[extra[0]]))
        return f"{extra[0]} is in it, though {better} beats it: {points[better]} against {points[extra[0]]}."
    return f"{missing[0]} is missing, though no point beats it." if missing else None


@sheet.exercise(3, 30, front, run=lambda answer, points: set(answer(points)), explain=_say_points)
def _front():
    """When does one point beat another? Write that as one condition first.

    For each point, ask whether any other is at least as good in both, and better in one. PSNR wants to be large,
    distance small.
    """
    small = {"a": (28.0, 0.2), "b": (30.0, 0.5), "c": (30.0, 0.6), "d": (27.0, 0.3), "e": (25.0, 0.1), "f": (25.0, 0.1)}
    places = torch.randint(6, (3, 9, 2)).tolist()
    cases = [
        ({"b": (30.0, 0.5), "a": (28.0, 0.2)},),
        (small,),
        *(({"qwertyuio"[k]: (20.0 + p, d / 10) for k, (p, d) in enumerate(ps)},) for ps in places),
    ]
    mistakes = {
        "two equal points beat each other; neither is better in one, so both stay.": (
            partial(_unbeaten, beats=lambda q, p: q[0] >= p[0] and q[1] <= p[1])
        ),
        "a point goes only if another is better in both; better in one, and as good in the other, is enough.": (
            partial(_unbeaten, beats=lambda q, p: q[0] > p[0] and q[1] < p[1])
        ),
        "a point goes if another is better in either; as good in both, and better in one, is needed.": (
            partial(_unbeaten, beats=lambda q, p: q[0] > p[0] or q[1] < p[1])
        ),
        "you take a larger distance for better; smaller is better.": (
            partial(_unbeaten, beats=lambda q, p: q != p and q[0] >= p[0] and q[1] >= p[1])
        ),
        "you take a smaller PSNR for better; larger is better.": (
            partial(_unbeaten, beats=lambda q, p: q != p and q[0] <= p[0] and q[1] <= p[1])
        ),
        "nobody is worse than those points; turn the comparison round.": (
            partial(_unbeaten, beats=lambda q, p: _beats(p, q))
        ),
        "those are the points that another beats; return the others.": lambda points: set(points) - front(points),
        "of equal points only one stays; neither beats the other, so both stay.": (
            lambda points: {n for n in front(points) if n == min(m for m in points if points[m] == points[n])}
        ),
        "that is the best in PSNR alone; others may be closer to the eye.": (
            lambda points: {max(points, key=lambda n: (points[n][0], -points[n][1]))}
        ),
        "that is the best in distance alone; others may have more PSNR.": (
            lambda points: {n for n in points if points[n][1] == min(p[1] for p in points.values())}
        ),
    }
    return cases, mistakes
