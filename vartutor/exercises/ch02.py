"""Exercises of chapter 02."""

import math
from functools import partial

import torch

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch02")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def perplexity(idx, V):
    p = torch.bincount(idx.flatten(), minlength=V) / idx.numel()
    p = p[p > 0]
    return torch.exp(-(p * p.log()).sum())


def _entropy(idx, V):
    return perplexity(idx, V).log().item()


@sheet.exercise(1, 10, perplexity)
def _perplexity():
    """From indices to shares, from shares to entropy, from entropy to a number of codes: three steps. Which shares
    must not meet the logarithm?

    Count the codes with torch.bincount, divide by their number, drop the zeros, and take exp(-(p * p.log()).sum()).
    """
    sizes = ((2, 3), (4, 3, 5), (50,))
    cases = [(torch.tensor([[4, 0, 0], [0, 1, 0]]), 6), *((torch.randint(9, s) ** 2 // 9, 11) for s in sizes)]
    mistakes = {
        "unused codes give 0 · log 0; leave them out, their share is 0.": lambda idx, V: math.nan,
        "that is the entropy in nats; its exponential counts codes.": _entropy,
        "that is the entropy in bits; two to that power counts codes.": lambda i, V: _entropy(i, V) / math.log(2),
        "the bases do not match: exp goes with log.": lambda i, V: 2 ** _entropy(i, V),
        "the bases do not match: 2 to the power goes with log2.": lambda i, V: math.exp(_entropy(i, V) / math.log(2)),
        "upside down: the entropy is minus the sum of p log p.": lambda i, V: math.exp(-_entropy(i, V)),
        "that is a share of V; return the number of codes itself.": lambda i, V: perplexity(i, V) / V,
        "that counts the codes that occur; perplexity weighs them by how often they occur.": lambda i, V: len(
            i.unique()
        ),
        "that is the usage; perplexity weighs codes by how often they occur.": lambda i, V: len(i.unique()) / V,
        "that is V: you took all codes to be equally frequent; count them in idx.": lambda i, V: V,
        "you divided by the length of the first side; idx.numel() counts all tokens.": (
            lambda i, V: math.exp((_entropy(i, V) - math.log(i[0].numel())) * i[0].numel())
        ),
    }
    return cases, mistakes


def quantize(f, codes):
    z = f.permute(0, 2, 3, 1)  # (B, H, W, C)
    idx = torch.cdist(z, codes).argmin(-1)  # (B, H, W, V) -> (B, H, W)
    q = codes[idx].permute(0, 3, 1, 2)  # (B, C, H, W)
    return f + (q - f).detach()


def _through(answer, f, codes):
    """The values, and what the two inputs get of a random gradient."""
    f, codes = f.requires_grad_(), codes.requires_grad_()
    got = answer(f, codes)
    shape = tuple(getattr(got, "shape", ()))
    require(shape == tuple(f.shape), f"the result should have the shape of f, {tuple(f.shape)}, and has {shape}")
    weight = torch.linspace(1, 2, f.numel()).view(f.shape)
    grads = torch.autograd.grad((got * weight).sum() + 0 * f.sum(), (f, codes), allow_unused=True)
    return got.detach(), *(torch.zeros_like(x) if g is None else g for g, x in zip(grads, (f, codes), strict=True))


def _say_gradient(got, right, f, codes):
    if not torch.allclose(got[0], right[0], atol=1e-4):
        return None
    if not got[1].any():
        return "The values are right, but f gets no gradient. argmin has none: add f, and subtract it inside detach()."
    if got[2].any():
        return "The codes get the picture's gradient. Detach the difference q - f; codes learn by a loss of their own."
    return "The values are right. f must get the gradient unchanged, as if q were f."


def distances(z, codes):
    return (z[..., None, :] - codes).square().sum(-1)


# What decides in wrong answers, here and in chapters 03 and 04: the code with the smallest of these numbers.
SCORES = {
    "those are the farthest codes; argmin, not argmax.": lambda z, e: -distances(z, e),
    "the largest z·e wins, but long codes win it; compare distances.": lambda z, e: -z @ e.T,
    "the 2 is missing in ‖z‖² - 2 z·e + ‖e‖².": lambda z, e: e.square().sum(-1) - z @ e.T,
}


def _choose(f, codes, score):
    q = codes[score(f.permute(0, 2, 3, 1), codes).argmin(-1)].permute(0, 3, 1, 2)
    return f + (q - f).detach()


def _mixed(f, codes):
    z = f.reshape(-1, f.shape[1])
    return f + (codes[distances(z, codes).argmin(1)].view(f.shape) - f).detach()


@sheet.exercise(
    2,
    20,
    quantize,
    run=_through,
    parts=("the result", "the gradient of f", "the gradient of codes"),
    explain=_say_gradient,
)
def _quantize():
    """Two problems, one after the other. Get the values right first: codes in the places of f. Then ask what the
    gradient of your line is.

    With z = f.permute(0, 2, 3, 1), torch.cdist(z, codes) holds the distances to every code. Bring the chosen codes
    back with permute(0, 3, 1, 2). Then: the value of q, the gradient of f.
    """
    sizes = ((1, 2, 1, 2, 3), (2, 4, 3, 5, 12), (1, 5, 6, 4, 40))
    cases = [
        (torch.randn(b, c, h, w), torch.randn(v, c) * torch.linspace(0.3, 2, v)[:, None]) for b, c, h, w, v in sizes
    ]
    mistakes = {
        "reshape(-1, C) takes neighbouring pixels for channels; permute the channels to the end first.": _mixed,
        "the codes are right, but channels lie last in a shape with channels second; permute them back.": (
            lambda f, e: f + (quantize(f, e).permute(0, 2, 3, 1).reshape(f.shape) - f).detach()
        ),
        **{diagnosis: partial(_choose, score=score) for diagnosis, score in SCORES.items()},
        "those are means of all codes, weighted by softmax; every position needs one code, the nearest.": (
            lambda f, e: ((-distances(f.permute(0, 2, 3, 1), e)).softmax(-1) @ e).permute(0, 3, 1, 2)
        ),
        "that is f itself; straight-through has the value of the code, and only the gradient of f.": lambda f, e: f * 1,
    }
    return cases, mistakes


def ema_step(codes, sums, weights, z, idx, decay):
    counts = torch.bincount(idx, minlength=len(codes)).float()
    totals = torch.zeros_like(sums).index_add(0, idx, z)
    sums = decay * sums + (1 - decay) * totals
    weights = decay * weights + (1 - decay) * counts
    alive = weights[:, None] > 1e-3
    codes = torch.where(alive, sums / weights.clamp(min=1e-3)[:, None], codes)
    return codes, sums, weights


def _ema(codes, sums, weights, z, idx, decay, *, mean=False, floor=1e-3, by="new", old=False, add=False, hit=False):
    counts = torch.bincount(idx, minlength=len(codes)).float()
    totals = torch.zeros_like(sums).index_add(0, idx, z)
    totals = totals / counts.clamp(min=1)[:, None] if mean else totals
    keep, take = (1, 1) if add else (decay, 1 - decay)
    before, sums, weights = weights, keep * sums + take * totals, keep * weights + take * counts
    below = {"new": weights.clamp(min=1e-9), "counts": counts.clamp(min=1), "old": before.clamp(min=1e-9)}[by]
    alive = (counts if hit else before if old else weights)[:, None] > floor
    return torch.where(alive, sums / below[:, None], codes), sums, weights


@sheet.exercise(3, 30, ema_step, parts=("codes", "sums", "weights"))
def _ema_step():
    """Two running averages, one of sums and one of counts. The code is their quotient. When must you not divide?

    torch.zeros_like(sums).index_add(0, idx, z) adds up the vectors of each code, torch.bincount counts them. Average
    both with the old ones, then divide one by the other where there is something to divide.
    """
    cases = []
    for V, C, N, decay in ((9, 2, 5, 0.9), (10, 4, 30, 0.6)):
        weights = torch.rand(V) * 3
        # One revived by the batch, one far above the floor, two just above and below it after the step, two dead.
        weights[-6:] = torch.tensor([5e-4, 0.004, 0.00105 / decay, 0.00095 / decay, 1e-5, 0.0])
        idx = torch.cat([torch.randint(1, V - 6, (N,)), torch.tensor([V - 6])])[torch.randperm(N + 1)]
        sums = weights[:, None] * torch.randn(V, C)
        cases.append((torch.randn(V, C), sums, weights, torch.randn(N + 1, C), idx, decay))
    mistakes = {
        "you swapped the shares: decay · old + (1 - decay) · new.": lambda *a: _ema(*a[:5], 1 - a[5]),
        "the past is forgotten; average with the old weights and sums.": lambda *a: _ema(*a[:5], 0.0),
        "you added without forgetting: decay · old + (1 - decay) · new.": partial(_ema, add=True),
        "you averaged means; average the sums of the vectors, and divide by the averaged weights at the end.": (
            lambda *a: _ema(*a, mean=True)
        ),
        "you divided by the counts of this batch; divide by the averaged weights.": partial(_ema, by="counts"),
        "you divided by the old weights; divide by the new ones.": partial(_ema, by="old"),
        "0 / 0 is not a number; a code whose weight is below 0.001 must stay where it is.": (
            lambda *a: ((s := _ema(*a))[1] / s[2][:, None], *s[1:])
        ),
        "every code moves; one whose weight is below 0.001 must stay where it is.": partial(_ema, floor=0),
        "more codes stay than should: the floor of the weights is 0.001.": partial(_ema, floor=0.01),
        "you compared the old weights with 0.001; the new ones decide.": partial(_ema, old=True),
        "only codes with features in this batch move; the averaged weight decides.": partial(_ema, hit=True),
        "the codes did not move; they are sums / weights.": lambda *a: (a[0], *ema_step(*a)[1:]),
    }
    return cases, mistakes
