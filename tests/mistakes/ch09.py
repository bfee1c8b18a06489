"""Typical wrong answers of chapter 09: (exercise, answer, part of the diagnosis)."""

import numpy as np

from vartutor.exercises.ch09 import differences, front


def everything(ours, theirs):
    return [np.mean(ours[photo]) - np.mean(theirs[photo]) for photo in ours]


def common(ours, theirs, how):
    return [how(ours[photo]) - how(theirs[photo]) for photo in ours if photo in theirs]


def middle(values, chosen, tail, axis=1):
    return np.quantile(values[chosen].mean(axis=axis), [tail, 1 - tail])


def weakly(points):  # one point beats another only if it is better in both
    def beats(q, p):
        return q[0] > p[0] and q[1] < p[1]

    return {name for name, p in points.items() if not any(beats(q, p) for q in points.values())}


def distinct(points):  # of equal points, the first stays
    kept = front(points)
    return {name for name in kept if points[name] not in [points[n] for n in sorted(kept) if n < name]}


def either(points):  # one point beats another if it is better in either
    def beats(q, p):
        return q[0] > p[0] or q[1] < p[1]

    return {name for name, p in points.items() if not any(beats(q, p) for q in points.values())}


WRONG = [
    ("differences", everything, "raised KeyError"),
    ("differences", lambda ours, theirs: [-x for x in differences(ours, theirs)], "theirs minus ours"),
    ("differences", lambda ours, theirs: common(ours, theirs, lambda v: v[0]), "first seed alone"),
    ("differences", lambda ours, theirs: common(ours, theirs, sum), "take means"),
    ("differences", lambda ours, theirs: sorted(differences(ours, theirs)), "keep the order"),
    ("differences", lambda ours, theirs: differences(ours, theirs)[:2], "should be a list of 4"),
    ("interval", lambda v, c, level: np.quantile(v[c], [0.05, 0.95]), "low should be 0.555"),
    ("interval", lambda v, c, level: middle(v, c, (1 - level) / 2, axis=0), "over a row"),
    ("interval", lambda v, c, level: middle(v, c, 1 - level), "half of the rest"),
    ("interval", lambda v, c, level: middle(v, c, 0.025), "let `level` decide"),
    ("interval", lambda v, c, level: middle(v, c, (1 - level) / 2)[::-1], "high comes before low"),
    ("interval", lambda v, c, level: v[c].mean(), "two numbers"),
    ("front", lambda points: set(points), "c is in it"),
    ("front", weakly, "better in both"),
    ("front", lambda points: {max(points, key=lambda n: (points[n][0], -points[n][1]))}, "best in PSNR alone"),
    ("front", distinct, "both stay"),
    ("front", lambda points: {1, 2}, "should be ['a', 'b']"),
    ("interval", lambda v, c, level: np.array([v[c].min(), v[c].max()]), "low should be 0.555"),
    ("differences", lambda ours, theirs: common(ours, theirs, np.median), "median over seeds"),
    (
        "front",
        lambda points: {n for n, p in points.items() if p[1] == min(q[1] for q in points.values())},
        "distance alone",
    ),
    ("front", either, "better in either"),
]
