"""Typical wrong answers of chapter 11: (exercise, answer, part of the diagnosis)."""

from vartutor.exercises.ch11 import price, rounds, shares

WRONG = [
    ("rounds", lambda b, g, n: -(-b // (g * n)), "may then be unequal"),
    ("rounds", lambda b, g, n: 1, "more than"),
    ("rounds", lambda b, g, n: b // g, "one image per GPU"),
    ("rounds", lambda b, g, n: b / (g * n), "a whole number"),
    ("price", lambda f, s, g, k, u, p: tuple(3600 * x for x in price(f, s, g, k, u, p)), "seconds"),
    ("price", lambda f, s, g, k, u, p: price(f, s, 1, k, u, p), "share the work"),
    ("price", lambda f, s, g, k, u, p: price(f * u * u, s, g, k, u, p), "takes twice as long"),
    ("price", lambda f, s, g, k, u, p: price(f, s, g, k, 1, p), "is missing"),
    (
        "price",
        lambda f, s, g, k, u, p: (price(f, s, g, k, u, p)[0], price(f, s, g, k, u, p)[0] * p),
        "bill is for one GPU",
    ),
    ("price", lambda f, s, g, k, u, p: price(f, s, g, k, u, p)[0], "return two: hours"),
    ("shares", lambda s, b, r, n, k: shares(s, b, r, 1, 0), "share them"),
    ("shares", lambda s, b, r, n, k: shares(s, b, r, n, 0), "Every process reads the same"),
    ("shares", lambda s, b, r, n, k: [shares(s, b, r, n, k)[0]] * r, "Every round reads the same"),
    ("shares", lambda s, b, r, n, k: shares(0, b, r, n, k), "Step 1 owns"),
    ("shares", lambda s, b, r, n, k: [[x + j for x in shares(s, b, r, n, k)[0]] for j in range(r)], "read 2 times"),
    ("shares", lambda s, b, r, n, k: shares(s, b, 1, n, k)[0], "list of lists"),
    ("rounds", lambda b, g, n: b // (g * n), "rounds down"),
    ("rounds", lambda b, g, n: rounds(b, 1, n), "GPUs are left out"),
    ("rounds", lambda b, g, n: rounds(b, g, n) + 2, "do not divide evenly"),
    ("rounds", lambda b, g, n: 2 * rounds(b, g, n), "Fewer rounds are enough"),
    ("price", lambda *a: price(*a)[::-1], "dollars come before hours"),
]
