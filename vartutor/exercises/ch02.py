"""Exercises of chapter 02."""

import math

import torch
from torch import Tensor

from vartutor.exercises.sheet import Sheet, require
from vartutor.tokenizer.vq import nearest_code

sheet = Sheet("ch02")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def perplexity(idx, V):
    p = torch.bincount(idx.flatten(), minlength=V) / idx.numel()
    p = p[p > 0]
    return torch.exp(-(p * p.log()).sum())


@sheet.exercise(1, perplexity)
def _test_perplexity(answer) -> None:
    """Count the codes with torch.bincount, divide by their number, drop the zeros, and take exp(-(p *
    p.log()).sum())."""
    idx = torch.tensor([[0, 0, 0, 0, 1, 1], [1, 1, 2, 2, 4, 6]])  # 3, 5 and 7 of eight codes are never used
    got, right = float(answer(idx, 8)), float(perplexity(idx, 8))
    require(not math.isnan(got), "not a number: unused codes give 0 · log 0; leave them out, their share is 0")
    entropy = math.log(right)
    mistakes = {
        entropy: "that is the entropy in nats; its exponential counts codes",
        entropy / math.log(2): "that is the entropy in bits; two to that power counts codes",
        2**entropy: "the bases do not match: exp goes with log, and 2 to the power goes with log2",
        math.exp(entropy / math.log(2)): "the bases do not match: exp goes with log, and 2 to the power goes with log2",
        1 / right: "upside down: the entropy is minus the sum of p log p",
        right / 8: "that is a share of V; return the number of codes itself",
        5.0: "that counts the codes that occur; perplexity weighs them by how often they occur",
        5 / 8: "that is the usage; perplexity weighs codes by how often they occur",
        8.0: "that is V: you took all codes to be equally frequent; count them in idx",
    }
    for wrong, diagnosis in mistakes.items():
        require(abs(got - wrong) > 1e-3, diagnosis)
    require(abs(got - right) < 1e-3, f"expected {right:.3f}, got {got:.3f}")
    even = float(answer(torch.arange(8).repeat(3), 8))
    require(abs(even - 8) < 1e-3, f"eight codes used evenly must give 8, and you return {even:.3f}")


def quantize(f, codes):
    z = f.permute(0, 2, 3, 1)  # (B, H, W, C)
    idx = (z[..., None, :] - codes).square().sum(-1).argmin(-1)  # (B, H, W)
    q = codes[idx].permute(0, 3, 1, 2)  # (B, C, H, W)
    return f + (q - f).detach()


@sheet.exercise(2, quantize)
def _test_quantize(answer) -> None:
    """With z = f.permute(0, 2, 3, 1), z[..., None, :] - codes holds the differences to every code. Bring the chosen
    codes back with permute(0, 3, 1, 2). Then: the value of q, the gradient of f."""
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(2, 4, 6, 5, generator=generator).requires_grad_()
    codes = (torch.randn(12, 4, generator=generator) * torch.linspace(0.3, 2, 12)[:, None]).requires_grad_()
    got, right = answer(f, codes), quantize(f, codes)
    require(
        isinstance(got, Tensor) and got.shape == right.shape,
        f"return the quantized map, of the shape of f: {tuple(f.shape)}; channels come second",
    )
    z, e = f.detach().permute(0, 2, 3, 1), codes.detach()
    mixed = e[nearest_code(f.detach().reshape(-1, 4), e)]
    distances = (z[..., None, :] - e).square().sum(-1)
    mistakes = {
        "reshape(-1, C) took neighbouring pixels for channels: permute the channels to the end first": mixed.view(
            f.shape
        ),
        "the code vectors are right, but they are laid out with channels last, in a shape with channels second: "
        "permute them back": e[distances.argmin(-1)].reshape(f.shape),
        "these are the farthest codes: argmin, not argmax": e[distances.argmax(-1)].permute(0, 3, 1, 2),
        "the largest product z·e is not the nearest code, for long codes win: compare squared distances": e[
            (z @ e.T).argmax(-1)
        ].permute(0, 3, 1, 2),
        "that is f itself: straight-through has the value of the code, and only the gradient of f": f.detach(),
    }
    for diagnosis, wrong in mistakes.items():
        require(not torch.allclose(got, wrong, atol=1e-4), diagnosis)
    require(torch.allclose(got, right, atol=1e-4), "the values are not those of the nearest codes")
    require(got.requires_grad, "right values, but no gradient at all: argmin has none; go straight through")
    weight = torch.randn(f.shape, generator=generator)
    to_f, to_codes = torch.autograd.grad((got * weight).sum(), (f, codes), allow_unused=True)
    require(
        to_f is not None and to_f.abs().max() > 0,
        "right values, but f gets no gradient: add f, and subtract it inside detach()",
    )
    require(
        to_codes is None or to_codes.abs().max() == 0,
        "the codes get the picture's gradient too; detach the difference q - f, they learn by their own loss",
    )
    require(torch.allclose(to_f, weight, atol=1e-5), "f must get the gradient unchanged, as if q were f")


def ema_step(codes, sums, weights, z, idx, decay):
    counts = torch.bincount(idx, minlength=len(codes)).float()
    totals = torch.zeros_like(sums).index_add(0, idx, z)
    sums = decay * sums + (1 - decay) * totals
    weights = decay * weights + (1 - decay) * counts
    alive = weights[:, None] > 1e-3
    codes = torch.where(alive, sums / weights.clamp(min=1e-3)[:, None], codes)
    return codes, sums, weights


@sheet.exercise(3, ema_step)
def _test_ema_step(answer) -> None:
    """torch.zeros_like(sums).index_add(0, idx, z) adds up the vectors of each code, torch.bincount counts them. Average
    both with the old ones, then divide one by the other where there is something to divide."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(5, 3, generator=generator)
    weights = torch.tensor([2.0, 1.0, 3.0, 0.5, 1e-5])  # the last code died long ago
    start = codes, codes * weights.round()[:, None], weights
    z = torch.randn(12, 3, generator=generator)
    idx = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2])  # the fourth code gets nothing in this batch
    given = [part.clone() for part in start]
    got = answer(*given, z, idx, 0.9)
    require(
        isinstance(got, (tuple, list)) and [getattr(g, "shape", None) for g in got] == [p.shape for p in start],
        "return three tensors: codes (V, C), sums (V, C) and weights (V,)",
    )
    got_codes, got_sums, got_weights = got
    right_codes, right_sums, right_weights = ema_step(*start, z, idx, 0.9)
    _, _, swapped_weights = ema_step(*start, z, idx, 0.1)
    counts = torch.bincount(idx, minlength=5).float()
    totals = torch.zeros(5, 3).index_add(0, idx, z)
    means = totals / counts.clamp(min=1)[:, None]

    def same(a, b):
        return torch.allclose(a, b, atol=1e-5)

    require(
        not same(got_weights, swapped_weights),
        "decay is the share of the old: decay · old + (1 - decay) · new, not swapped",
    )
    require(not same(got_weights, counts), "you forgot the past: average with the old weights and sums")
    require(not same(got_weights, weights + counts), "you added without forgetting: decay · old + (1 - decay) · new")
    require(same(got_weights, right_weights), "the weights are not the moving average of the counts of idx")
    require(
        not same(got_sums, 0.9 * start[1] + 0.1 * means),
        "you averaged means; average the sums of the vectors, and divide by the averaged weights at the end",
    )
    require(same(got_sums, right_sums), "the sums are not the moving average of each code's summed vectors")
    require(not bool(got_codes.isnan().any() or got_codes.isinf().any()), "a code is not finite: do not divide by zero")
    require(
        not same(got_codes[:3], (right_sums / counts.clamp(min=1)[:, None])[:3]),
        "divide by the averaged weights, not by the counts of this batch",
    )
    require(not same(got_codes[:3], codes[:3]), "the codes did not move: they are sums / weights")
    require(same(got_codes[:4], right_codes[:4]), "the codes are not the averaged sums over the averaged weights")
    require(same(got_codes[4], codes[4]), "a code whose weight is below 0.001 must stay where it is")
