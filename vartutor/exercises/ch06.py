"""Exercises of chapter 06."""

from functools import partial

import torch

from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch06")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def block_mask(patch_nums):
    squares = torch.tensor([p * p for p in patch_nums])
    level = torch.repeat_interleave(torch.arange(len(squares)), squares)
    return level[:, None] >= level


def _mask(patch_nums, of=lambda k, p: k, count=lambda p: p * p, see=torch.ge):
    level = torch.cat([torch.full((count(p),), of(k, p)) for k, p in enumerate(patch_nums)])
    return see(level[:, None], level)


@sheet.exercise(1, 10, block_mask)
def _block_mask():
    """What decides whether a token may look at another: its place in the sequence, or the map that it belongs to?

    Give every token the number of its map (torch.repeat_interleave), and compare the numbers of rows with those of
    columns.
    """
    cases = [((1, 2),), ((1, 2, 2, 3),), ((2, 3, 4),)]
    mistakes = {
        "a triangle forbids a token its neighbours of the same map; all of a map may look at each other.": (
            lambda p: torch.ones_like(block_mask(p)).tril()
        ),
        "that is 1 row and column per side; a map of side p has p * p tokens.": partial(_mask, count=lambda p: p),
        "you compare the sides, so maps of the same side see each other; number the maps, and compare the numbers.": (
            partial(_mask, of=lambda k, p: p)
        ),
        "rows and columns are exchanged; row i sees column j if j's map is not later.": partial(_mask, see=torch.le),
        "True and False are exchanged.": partial(_mask, see=torch.lt),
        "tokens may look at their own map too, not only at the maps before.": partial(_mask, see=torch.gt),
        "tokens may look at the maps before their own too.": partial(_mask, see=torch.eq),
        "everybody sees everybody; maps to come must stay hidden.": lambda p: torch.ones_like(block_mask(p)),
        "those are numbers; return booleans, True where a row may look.": lambda p: block_mask(p).float(),
        "those are whole numbers; return booleans, True where a row may look.": lambda p: block_mask(p).long(),
    }
    return cases, mistakes


def top_p(logits, p):
    values, order = logits.sort(descending=True)
    chances = values.softmax(-1)
    before = chances.cumsum(-1) - chances  # what the likelier codes hold together
    drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -torch.inf)


def _top(logits, p, stay=lambda c, p: c.cumsum(-1) - c < p, chances=lambda v: v.softmax(-1), rising=False, place=True):
    values, order = logits.sort(descending=not rising)
    keep = stay(chances(values), p)
    return logits.masked_fill(~(torch.zeros_like(keep).scatter(-1, order, keep) if place else keep), -torch.inf)


def _at_least_one(c, p):
    return (c.cumsum(-1) <= p) | (torch.arange(c.shape[-1]) == 0)


@sheet.exercise(2, 20, top_p)
def _top_p():
    """Sort one row on paper. A code stays if those before it do not yet hold p together.

    Sort, take the softmax, and sum up what stands before each code. Where that has reached p already, the code goes.
    Then scatter the decision back to the old places.
    """
    first = torch.tensor([[0.3, 2.1, -0.4, 1.2]])
    cases = [(first, 0.7), *((2 * torch.randn(n, v) - 3, p) for n, v, p in ((3, 6, 0.9), (7, 9, 0.5), (5, 20, 0.05)))]
    mistakes = {
        "the code that reaches p goes; it must stay, or the sum is below p.": partial(_top, stay=_at_least_one),
        "the code that reaches p goes, and with it the likeliest, where that one is above p.": (
            partial(_top, stay=lambda c, p: c.cumsum(-1) <= p)
        ),
        "one code too many stays in each row; stop at the code that reaches p.": (
            partial(_top, stay=lambda c, p: c.cumsum(-1) - c - c.roll(1, -1) * (torch.arange(c.shape[-1]) > 0) < p)
        ),
        "each probability alone is compared with p; compare their sum.": partial(
            _top, stay=lambda c, p: (c >= p) | (c == c.amax(-1, keepdim=True))
        ),
        "you sort from small to large, and drop codes until the sum reaches p; what goes holds at most 1 - p.": (
            partial(_top, stay=lambda c, p: c.cumsum(-1) > p, rising=True)
        ),
        "the sum starts at the least likely codes; sort with descending=True.": partial(_top, rising=True),
        "you add up logits; take the softmax first.": partial(_top, chances=lambda v: v),
        "the decisions were not put back after sorting; scatter them to the old places.": partial(_top, place=False),
        "you set the others to 0; they must be minus infinity.": lambda x, p: top_p(x, p).nan_to_num(neginf=0.0),
        "those are probabilities; return logits, those that stay unchanged.": lambda x, p: top_p(x, p).softmax(-1),
        "those are log-probabilities; leave logits that stay as they are.": lambda x, p: top_p(x, p).log_softmax(-1),
        "those are the probabilities before the cut; return logits, those that stay unchanged.": (
            lambda x, p: x.softmax(-1).masked_fill(top_p(x, p).isinf(), -torch.inf)
        ),
        "the logits are sorted; leave codes in their places.": lambda x, p: top_p(x, p).sort(descending=True).values,
    }
    return cases, mistakes


def cached_attention(q, k, v, cache):
    if cache:
        k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
    cache["k"], cache["v"] = k, v
    chances = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return chances @ v


def _in_turn(answer, q, k, v):
    """The results for some maps, one after the other, with one cache."""
    cache = {}
    return [answer(*new, cache) for new in zip(q, k, v, strict=True)]


def _attend(q, k, v, cache, see="all", scale=lambda d: d**0.5, dim=-1, causal=False):
    old = dict(cache)
    keys, values = (torch.cat([*old.get(n, []), x], 2) for n, x in (("k", k), ("v", v)))
    cache.update(k=[k if see == "last" else keys], v=[v if see == "last" else values])
    if see == "old" and old:
        keys, values = keys[:, :, : -k.shape[2]], values[:, :, : -k.shape[2]]
    elif see == "own":
        keys, values = k, v
    scores = q @ keys.mT / scale(q.shape[-1])
    if causal:
        scores = scores.masked_fill(
            ~torch.ones(scores.shape[-2:]).bool().tril(scores.shape[-1] - scores.shape[-2]), -1e9
        )
    return scores.softmax(dim) @ values


@sheet.exercise(3, 30, cached_attention, run=_in_turn)
def _cached_attention():
    """Which of q, k and v of the earlier tokens will be needed again?

    Put the new keys and values behind those in the cache, along the tokens (dimension 2); store both; then it is
    plain attention of the new queries to all keys. No mask: all that is in the cache may be seen.
    """
    sizes = ((1, 1, 2, (1, 2)), (2, 3, 4, (1, 4, 9)), (3, 2, 5, (4, 6, 3)))
    cases = [tuple([torch.randn(B, H, n, d) for n in counts] for _ in "qkv") for B, H, d, counts in sizes]
    mistakes = {
        "the new tokens hear each other only; keep keys and values, and use all of them.": partial(_attend, see="own"),
        "the new tokens hear the old ones only; they must hear each other too.": partial(_attend, see="old"),
        "the cache holds the last map only; keep all maps, not just one.": partial(_attend, see="last"),
        "the scale is missing; divide the products by √d before the softmax.": partial(_attend, scale=lambda d: 1),
        "you divide by d; divide the products by √d.": partial(_attend, scale=lambda d: d),
        "you multiply by √d; divide the products by it.": partial(_attend, scale=lambda d: d**-0.5),
        "the softmax runs over the queries; it belongs over the keys, the last dimension.": partial(_attend, dim=-2),
        "a mask hides new tokens from each other; all may be seen, so no mask.": partial(_attend, causal=True),
    }
    return cases, mistakes
