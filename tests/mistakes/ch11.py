"""Typical wrong answers of chapter 11: (exercise, answer, part of the diagnosis)."""

from vartutor.exercises.ch11 import price, shares

WRONG = [
    ("rounds", lambda b, g, n: -(-b // (g * n)), "do not divide evenly"),
    ("rounds", lambda b, g, n: 1, "more than"),
    ("rounds", lambda b, g, n: b // g, "waste time"),
    ("rounds", lambda b, g, n: b / (g * n), "a whole number"),
    ("price", lambda f, s, g, k, u, p: tuple(3600 * x for x in price(f, s, g, k, u, p)), "seconds"),
    ("price", lambda f, s, g, k, u, p: price(f, s, 1, k, u, p), "share the work"),
    ("price", lambda f, s, g, k, u, p: price(f * u * u, s, g, k, u, p), "takes twice as long"),
    ("price", lambda f, s, g, k, u, p: price(f, s, g, k, 1, p), "is missing"),
    (
        "price",
        lambda f, s, g, k, u, p: (price(f, s, g, k, u, p)[0], price(f, s, g, k, u, p)[0] * p),
        "times their number",
    ),
    ("price", lambda f, s, g, k, u, p: price(f, s, g, k, u, p)[0], "two numbers"),
    ("shares", lambda s, b, r, n, k: shares(s, b, r, 1, 0), "6 numbers"),
    ("shares", lambda s, b, r, n, k: shares(s, b, r, n, 0), "every process reads the same"),
    ("shares", lambda s, b, r, n, k: [shares(s, b, r, n, k)[0]] * r, "every round reads the same"),
    ("shares", lambda s, b, r, n, k: shares(0, b, r, n, k), "step 3 owns"),
    ("shares", lambda s, b, r, n, k: [[x + j for x in shares(s, b, r, n, k)[0]] for j in range(r)], "read twice"),
    ("shares", lambda s, b, r, n, k: shares(s, b, 1, n, k)[0], "one list of numbers per round"),
]
