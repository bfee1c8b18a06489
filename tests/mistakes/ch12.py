"""Typical wrong answers of chapter 12: (exercise, answer, part of the diagnosis)."""

import torch

from vartutor.exercises.ch12 import middle, pull, steps

WRONG = [
    ("steps", lambda n, b, e: n * e, "that counts images"),
    ("steps", lambda n, b, e: n // b * e, "divide at the end"),
    ("steps", lambda n, b, e: n * e / b, "a whole number"),
    ("steps", lambda n, b, e: steps(n, b, e) + 1, "expected"),
    ("middle", lambda h, w: tuple(corner[::-1] for corner in middle(h, w)), "top comes before left"),
    ("middle", lambda h, w: ((h // 2, w // 2), (2 * h, 2 * w)), "not the corner"),
    ("middle", lambda h, w: (middle(h, w)[0], ((4 * h - 512) // 2, (4 * w - 512) // 2)), "they must agree"),
    ("middle", lambda h, w: (middle(h, w)[0], middle(h, w)[0]), "the large crop"),
    ("middle", lambda h, w: middle(h, w)[0], "two corners"),
    ("pull", lambda m, b, t: -pull(m, b, t), "the sign"),
    ("pull", lambda m, b, t: len(m) * pull(m, b, t), "a mean over photos"),
    ("pull", lambda m, b, t: pull(m, b, t) / b, "β is missing"),
    ("pull", lambda m, b, t: pull(m, b, t)[:, 0], "one number per token"),
    ("pull", lambda m, b, t: pull(m, b, t) * (1 if t else m.shape[1]), "1 / L"),
    ("pull", lambda m, b, t: pull(-m, b, t), "fades"),
    ("pull", lambda m, b, t: torch.zeros_like(m), "autograd's"),
]
