"""Typical wrong answers of chapter 06: (exercise, answer, part of the diagnosis)."""

import torch

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
    scores = q @ k.mT / {"unscaled": 1, "d": q.shape[-1]}.get(mode, q.shape[-1] ** 0.5)
    if mode == "causal":
        n, m = scores.shape[-2:]
        scores = scores.masked_fill(torch.arange(m) > torch.arange(n)[:, None] + m - n, -torch.inf)
    return scores.softmax(-2 if mode == "rows" else -1) @ v


def by_side(patch_nums):
    sides = torch.cat([torch.full((p * p,), p) for p in patch_nums])
    return sides[:, None] >= sides


def per_side(patch_nums):
    level = torch.repeat_interleave(torch.arange(len(patch_nums)), torch.tensor(patch_nums))
    return level[:, None] >= level


def rising(logits, stay):
    """Decisions on the sorted probabilities, the smallest first, back in the old places."""
    values, order = logits.softmax(-1).sort()
    return torch.zeros(logits.shape, dtype=torch.bool).scatter(-1, order, stay(values))


def unsoftened(logits, p):
    values, order = logits.sort(descending=True)
    stay = values.cumsum(-1) - values < p
    return keep(logits, torch.zeros_like(stay).scatter(-1, order, stay))


def in_place(logits, p):
    values, order = logits.sort(descending=True)
    stay = values.softmax(-1).cumsum(-1) - values.softmax(-1) < p
    logits[~torch.zeros_like(stay).scatter(-1, order, stay)] = -torch.inf
    return logits


WRONG = [
    ("block_mask", lambda p: torch.ones_like(block_mask(p)).tril() > 0, "a triangle forbids"),
    ("block_mask", lambda p: block_mask(p).T, "rows and columns"),
    ("block_mask", lambda p: ~block_mask(p), "exchanged"),
    ("block_mask", lambda p: block_mask(p).float(), "return booleans"),
    ("block_mask", lambda p: per_side(p), "p * p tokens"),
    ("block_mask", lambda p: block_mask(p) & ~block_mask(p).T, "their own map too"),
    ("block_mask", lambda p: block_mask(p) & block_mask(p).T, "maps before their own"),
    ("top_p", lambda x, p: by_rank(x, p, strict=True), "goes, and with it the likeliest"),
    (
        "top_p",
        lambda x, p: keep(by_rank(x, p, strict=True), torch.ones_like(x) > 0).where(x < x.amax(-1, keepdim=True), x),
        "must stay",
    ),
    ("top_p", lambda x, p: keep(x, (x.softmax(-1) >= p) | (x == x.amax(-1, keepdim=True))), "each probability alone"),
    ("top_p", lambda x, p: by_rank(x, p, back=False), "scatter them to the old places"),
    ("top_p", lambda x, p: top_p(x, p).softmax(-1).log(), "as they are"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "none"), "hear each other only"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "unscaled"), "the scale is missing"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "old"), "the old ones only"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "last"), "last map only"),
    ("block_mask", by_side, "you compare the sides"),
    ("top_p", lambda x, p: keep(x, rising(x, lambda c: c.cumsum(-1) > p)), "from small to large"),
    ("top_p", lambda x, p: top_p(x, p).nan_to_num(neginf=0.0), "minus infinity"),
    ("top_p", lambda x, p: top_p(x, p).softmax(-1), "those are probabilities"),
    ("top_p", lambda x, p: keep(x, rising(x, lambda c: c.cumsum(-1) - c < p)), "least likely codes"),
    ("top_p", unsoftened, "take the softmax first"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "d"), "divide the products by √d"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "causal"), "hides new tokens"),
    ("cached_attention", lambda q, k, v, c: attention(q, k, v, c, "rows"), "over the queries"),
    (
        "cached_attention",
        lambda q, k, v, c: attention(q, k, v, c, "all").transpose(1, 2),
        "shape (1, 2, 1, 2)",
    ),
    ("top_p", in_place, "you changed your input logits"),
]
