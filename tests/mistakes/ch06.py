"""Typical wrong answers of chapter 06: (exercise, answer, part of the diagnosis)."""

import torch
import torch.nn.functional as F

from vartutor.exercises.ch06 import block_mask, top_p


def keep(logits, kept):
    return logits.masked_fill(~kept, -torch.inf)


def by_rank(logits, p, strict=False, back=True):
    values, order = logits.sort(descending=True)
    total = values.softmax(-1).cumsum(-1)
    stay = total <= p if strict else total - values.softmax(-1) < p
    if not back:
        return keep(logits, stay)
    return keep(logits, torch.zeros_like(stay).scatter(-1, order, stay))


def attention(q, k, v, cache, mode):
    if mode == "last" and cache:
        old = dict(cache)
        cache.update(k=k, v=v)
        k, v = torch.cat([old["k"], k], 2), torch.cat([old["v"], v], 2)
    elif mode != "none":
        whole = (torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)) if cache else (k, v)
        if mode == "old" and cache:
            k, v = cache["k"], cache["v"]
            cache.update(k=whole[0], v=whole[1])
        else:
            cache.update(k=whole[0], v=whole[1])
            k, v = whole
    return F.scaled_dot_product_attention(q, k, v, scale=1.0 if mode == "unscaled" else None)


WRONG = [
    ("block_mask", lambda p: torch.ones(18, 18).tril() > 0, "a triangle forbids"),
    ("block_mask", lambda p: block_mask(p).T, "rows and columns"),
    ("block_mask", lambda p: ~block_mask(p), "exchanged"),
    ("block_mask", lambda p: block_mask(p).float(), "return booleans"),
    ("block_mask", lambda p: torch.ones(sum(p), sum(p)) > 0, "the ladder holds sides"),
    ("block_mask", lambda p: block_mask(p) & ~block_mask(p).T, "their own map too"),
    ("block_mask", lambda p: block_mask(p) & block_mask(p).T, "maps before their own"),
    ("top_p", lambda x, p: by_rank(x, p, strict=True), "always stays"),
    (
        "top_p",
        lambda x, p: keep(by_rank(x, p, strict=True), torch.ones_like(x) > 0).where(x < x.amax(-1, keepdim=True), x),
        "must stay",
    ),
    ("top_p", lambda x, p: keep(x, (x.exp() >= p) | (x == x.amax(-1, keepdim=True))), "not each alone"),
    ("top_p", lambda x, p: by_rank(x, p, back=False), "own places"),
    ("top_p", lambda x, p: top_p(x, p).softmax(-1).log(), "as they are"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "none"), "hear each other only"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "unscaled"), "1 / √d"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "old"), "not only the old ones"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "last"), "last map only"),
]
