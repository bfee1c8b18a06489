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


WRONG = [
    ("count_tokens", sum, "added the sides"),
    ("count_tokens", lambda p: p[-1] ** 2, "last scale alone"),
    ("count_tokens", lambda p: sum(n * n for n in set(p)), "counts twice"),
    ("count_tokens", lambda p: sum(n * n for n in p[1:]), "the answer is 680"),
    ("to_pixels", lambda x: ((x + 1) * 127.5).round().to(torch.uint8), "clamp"),
    ("to_pixels", lambda x: ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8), "round first"),
    ("to_pixels", lambda x: ((x + 1) * 127.5).round().clamp(0, 255), "return uint8"),
    ("to_pixels", lambda x: (x * 255).round().clamp(0, 255).to(torch.uint8), "not every level"),
    ("to_pixels", lambda x: (x * 127.5).round().clamp(0, 255).to(torch.uint8), "must become 255"),
    ("coarse_to_fine", lambda x, s: maps(x, s, subtract=False), "shrinks the photo itself"),
    ("coarse_to_fine", lambda x, s: maps(x, s, small=False), "store the small map"),
    ("coarse_to_fine", lambda x, s: maps(x, s, area="nearest"), "mean colour"),
    ("coarse_to_fine", lambda x, s: maps(x, s, up="nearest"), "add up to the photo"),
]
