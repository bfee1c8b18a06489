"""Typical wrong answers of chapter 00: (exercise, answer, part of the diagnosis)."""

import torch
import torch.nn.functional as F


def maps(x, sizes, subtract=True, area="area", up="bicubic", small=True):
    parts, rest = [], x
    for p in sizes:
        part = F.interpolate(rest, size=(p, p), mode=area)
        wide = F.interpolate(part, size=x.shape[-2:], mode=up)
        rest = rest - wide if subtract else rest
        parts.append(part if small else wide)
    return parts


def in_place(x, sizes):
    parts = []
    for p in sizes:
        parts.append(F.interpolate(x, size=(p, p), mode="area"))
        x -= F.interpolate(parts[-1], size=x.shape[-2:], mode="bicubic")
    return parts


WRONG = [
    ("count_tokens", sum, "added the sides"),
    ("count_tokens", lambda p: p[-1] ** 2, "last map alone"),
    ("count_tokens", lambda p: sum(n * n for n in set(p)), "counts twice"),
    ("count_tokens", lambda p: sum(n * n for n in p[1:]), "first map is left out"),
    ("to_pixels", lambda x: ((x + 1) * 127.5).round().to(torch.uint8), "clamp before"),
    ("to_pixels", lambda x: ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8), "round first"),
    ("to_pixels", lambda x: ((x + 1) * 127.5).round().clamp(0, 255), "should be a tensor of uint8"),
    ("to_pixels", lambda x: (x * 255).round().clamp(0, 255).to(torch.uint8), "values in [0, 1]"),
    ("to_pixels", lambda x: (x * 127.5).round().clamp(0, 255).to(torch.uint8), "the 1 is missing"),
    ("coarse_to_fine", lambda x, s: maps(x, s, subtract=False), "shrinks the photo itself"),
    ("coarse_to_fine", lambda x, s: maps(x, s, small=False), "store the small ones"),
    ("coarse_to_fine", lambda x, s: maps(x, s, area="nearest"), "mean colour"),
    ("coarse_to_fine", lambda x, s: maps(x, s, up="nearest"), "repeating pixels"),
    ("count_tokens", len, "counts the maps"),
    ("count_tokens", lambda p: sum(p) ** 2, "squared the sum"),
    ("count_tokens", lambda p: sum(n * n for n in p[:-1]), "last map is left out"),
    ("count_tokens", lambda p: float(sum(n * n for n in p)), "should be a whole number"),
    (
        "to_pixels",
        lambda x: ((x - x.min()) / (x.max() - x.min()) * 255).round().to(torch.uint8),
        "stretch the smallest",
    ),
    ("to_pixels", lambda x: ((x + 1) * 127.5).ceil().clamp(0, 255).to(torch.uint8), "rounded up"),
    ("to_pixels", lambda x: (128 * (x + 1)).floor().clamp(0, 255).to(torch.uint8), "256 equal parts"),
    ("to_pixels", lambda x: ((x + 1) * 128).round().clamp(0, 255).to(torch.uint8), "multiplied by 128"),
    ("to_pixels", lambda x: print(end=""), "returned None"),
    ("to_pixels", lambda x: ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).flatten(), "shape (2, 3, 5, 4)"),
    ("coarse_to_fine", lambda x, s: maps(x, s, area="bilinear"), "shrink with bilinear"),
    ("coarse_to_fine", lambda x, s: maps(x, s, up="bilinear"), "enlarge with bilinear"),
    ("coarse_to_fine", lambda x, s: maps(x, s)[:-1], "should be a list of 3"),
    ("coarse_to_fine", lambda x, s: torch.stack(maps(x, s, small=False)), "store the small ones"),
    ("coarse_to_fine", in_place, "you changed your input x"),
]
