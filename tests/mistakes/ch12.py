"""Typical wrong answers of chapter 12: (exercise, answer, part of the diagnosis)."""

import torch

from vartutor.exercises.ch12 import middle, pull, steps

WRONG = [
    ("steps", lambda n, b, e: n * e, "that counts images"),
    ("steps", lambda n, b, e: n // b * e, "divide at the end"),
    ("steps", lambda n, b, e: n * e / b, "a whole number"),
    ("steps", lambda n, b, e: steps(n, b, e) + 1, "should be 22"),
    ("middle", lambda h, w: tuple(corner[::-1] for corner in middle(h, w)), "left comes before top"),
    ("middle", lambda h, w: ((h // 2, w // 2), (2 * h, 2 * w)), "not a corner"),
    ("middle", lambda h, w: (middle(h, w)[0], ((4 * h - 512) // 2, (4 * w - 512) // 2)), "two pixels apart"),
    ("middle", lambda h, w: (middle(h, w)[0], middle(h, w)[0]), "both corners are those"),
    ("middle", lambda h, w: middle(h, w)[0], "that is one corner"),
    ("pull", lambda m, b, t: -pull(m, b, t), "the sign"),
    ("pull", lambda m, b, t: len(m) * pull(m, b, t), "a mean over photos"),
    ("pull", lambda m, b, t: pull(m, b, t) / b, "β is missing"),
    ("pull", lambda m, b, t: pull(m, b, t)[:, 0], "one per token"),
    ("pull", lambda m, b, t: pull(m, b, t) * (1 if t else m.shape[1]), "1 / L"),
    ("pull", lambda m, b, t: pull(-m, b, t), "fades"),
    ("pull", lambda m, b, t: torch.zeros_like(m), "should be [["),
    ("steps", lambda n, b, e: n * e // b, "rounds down"),
    ("steps", lambda n, b, e: -(-n * e // b), "rounds up"),
    ("steps", lambda n, b, e: round(n / b) * e, "every epoch is rounded"),
    ("middle", lambda h, w: ((h - 128, w - 128), (4 * (h - 128), 4 * (w - 128))), "all that is left over"),
    ("middle", lambda h, w: (((h - 128) / 2, (w - 128) / 2), (2 * (h - 128), 2 * (w - 128))), "whole numbers"),
    ("pull", lambda m, b, t: pull(m, b, not t), "exchanged them"),
    ("pull", lambda m, b, t: pull(m, b, t)[:, :1], "use expand_as"),
    (
        "pull",
        lambda m, b, t: (-b * torch.sigmoid(-b * m) / m.numel()).div(1 if not t else 1 / m.shape[1]),
        "own margin",
    ),
]
