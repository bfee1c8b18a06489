"""Exercises of chapter 06."""

import torch
import torch.nn.functional as F

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch06")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def block_mask(patch_nums):
    squares = torch.tensor([p * p for p in patch_nums])
    level = torch.repeat_interleave(torch.arange(len(squares)), squares)
    return level[:, None] >= level


@sheet.exercise(1, block_mask)
def _test_block_mask(answer) -> None:
    """Give every token the number of its map (torch.repeat_interleave), and compare the numbers of rows with those of
    columns."""
    ladder = (1, 2, 2, 3)
    got, right = answer(ladder), block_mask(ladder)
    shape = tuple(getattr(got, "shape", ()))
    require(shape != (9, 9) and shape != (8, 8), "the ladder holds sides: a map of side p has p * p tokens")
    require(shape == tuple(right.shape), f"expected shape {tuple(right.shape)}, got {shape}")
    require(got.dtype == torch.bool, "return booleans: True where a row may look")
    L = len(right)
    mistakes = {
        "a triangle forbids a token its neighbours of the same map; all of a map may look at each other": torch.ones(
            L, L
        ).tril()
        > 0,
        "rows and columns are exchanged: row i may look at column j if j's map is not later": right.T,
        "True and False are exchanged": ~right,
        "tokens may look at their own map too, not only at the maps before": right & ~right.T,
        "tokens may look at the maps before their own too": right & right.T,
    }
    for diagnosis, wrong in mistakes.items():
        require(not torch.equal(got, wrong), diagnosis)
    require(torch.equal(got, right), f"{(got != right).sum()} of {right.numel()} entries are wrong")


def top_p(logits, p):
    values, order = logits.sort(descending=True)
    chances = values.softmax(-1)
    before = chances.cumsum(-1) - chances  # what the likelier codes hold together
    drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -torch.inf)


@sheet.exercise(2, top_p)
def _test_top_p(answer) -> None:
    """Sort, take the softmax, and sum up what stands before each code. Where that has reached p already, the code goes.
    Then scatter the decision back to the old places."""
    logits = torch.log(
        torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.2, 0.6], [0.25, 0.25, 0.3, 0.2], [0.97, 0.01, 0.01, 0.01]])
    )
    for p in (0.7, 0.9, 0.1):
        got = answer(logits, p)
        require(getattr(got, "shape", None) == logits.shape, "return logits of the same shape")
        right = top_p(logits, p).isfinite()
        kept = got.isfinite()
        require(kept.any(-1).all(), f"p = {p}: a row lost all its codes; the likeliest always stays")
        require(
            torch.equal(kept, right) or not torch.equal(kept.sum(-1), (right.sum(-1) - 1).clamp(min=1)),
            f"p = {p}: one code too few in each row: the one that reaches p must stay",
        )
        require(
            not torch.equal(kept, (logits.exp() >= p) | (logits == logits.amax(-1, keepdim=True))),
            "compare the sum of the probabilities with p, not each alone",
        )
        require(
            torch.equal(kept, right),
            f"p = {p}: kept {kept.sum(-1).tolist()} codes per row, expected {right.sum(-1).tolist()}; "
            "are they put back to their own places after sorting?",
        )
        require(torch.equal(got[kept], logits[kept]), "leave the logits that stay as they are")


def cached_attention(q, k, v, cache):
    if cache:
        k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
    cache["k"], cache["v"] = k, v
    chances = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return chances @ v


@sheet.exercise(3, cached_attention)
def _test_cached_attention(answer) -> None:
    """Put the new keys and values behind those in the cache, along the tokens (dimension 2); store both; then it is
    plain attention of the new queries to all keys. No mask: all that is in the cache may be seen."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 2, 2, n, 4, generator=generator) for n in (1, 4, 9)]
    cache, right_cache = {}, {}
    for number, (q, k, v) in enumerate(maps):
        got, right = answer(q, k, v, cache), cached_attention(q, k, v, right_cache)
        require(getattr(got, "shape", None) == right.shape, f"return (B, H, n, d): {tuple(right.shape)}")
        alone = F.scaled_dot_product_attention(q, k, v)
        require(
            number == 0 or not torch.allclose(got, alone, atol=1e-5),
            "the new tokens hear each other only: put keys and values into the cache, and use all that it holds",
        )
        unscaled = (q @ right_cache["k"].transpose(-1, -2)).softmax(-1) @ right_cache["v"]
        require(
            number == 0 or not torch.allclose(got, unscaled, atol=1e-5),
            "scale the products by 1 / √d before the softmax",
        )
        if number:
            old = F.scaled_dot_product_attention(
                q, right_cache["k"][:, :, : -k.shape[2]], right_cache["v"][:, :, : -k.shape[2]]
            )
            require(
                not torch.allclose(got, old, atol=1e-5),
                "the new tokens must hear each other too, not only the old ones",
            )
        last = maps[number - 1][1:].unbind(0) if number else ()
        if number == 2:
            two = F.scaled_dot_product_attention(q, torch.cat([last[0], k], 2), torch.cat([last[1], v], 2))
            require(
                not torch.allclose(got, two, atol=1e-5),
                "the cache holds the last map only: keep all maps, not just one",
            )
        require(torch.allclose(got, right, atol=1e-5), f"map {number + 1} is wrong, though its shape is right")
