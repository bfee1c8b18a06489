"""Typical wrong answers of chapter 02: (exercise, answer, part of the diagnosis)."""

import torch


def entropy_of(idx, size, log=torch.log):
    p = torch.bincount(idx.flatten(), minlength=size) / idx.numel()
    p = p[p > 0]
    return -(p * log(p)).sum()


def with_nan(idx, size):
    p = torch.bincount(idx.flatten(), minlength=size) / idx.numel()
    return torch.exp(-(p * p.log()).sum())


def quantized(f, codes, pick=torch.argmin, through=lambda f, q: f + (q - f).detach()):
    z = f.permute(0, 2, 3, 1)
    idx = pick((z[..., None, :] - codes).square().sum(-1), -1)
    return through(f, codes[idx].permute(0, 3, 1, 2))


def mixed_channels(f, codes):
    z = f.reshape(-1, f.shape[1])
    q = codes[(z[:, None] - codes).square().sum(-1).argmin(-1)].view(f.shape)
    return f + (q - f).detach()


def channels_last(f, codes, view=False):
    q = quantized(f, codes, through=lambda f, q: q).permute(0, 2, 3, 1)
    return q.reshape(f.shape) if view else q


def largest_product(f, codes):
    idx = (f.permute(0, 2, 3, 1) @ codes.T).argmax(-1)
    return f + (codes[idx].permute(0, 3, 1, 2) - f).detach()


def ema(
    codes,
    sums,
    weights,
    z,
    idx,
    decay,
    *,
    by="averaged",
    totals="sums",
    alive=True,
    add=False,
    move=True,
    floor=1e-3,
    floor_of="new",
):
    counts = torch.bincount(idx, minlength=len(codes)).float()
    new = torch.zeros_like(sums).index_add(0, idx, z)
    new = new / counts.clamp(min=1)[:, None] if totals == "means" else new
    keep = 1 if add else decay
    old, sums, weights = weights, keep * sums + (1 - keep or 1) * new, keep * weights + (1 - keep or 1) * counts
    fresh = sums / (weights if by == "averaged" else counts.clamp(min=1))[:, None]
    stay = (
        ((old if floor_of == "old" else weights) > floor)[:, None]
        if alive
        else torch.ones(len(codes), 1, dtype=torch.bool)
    )
    return torch.where(stay, fresh, codes) if move else codes, sums, weights


def by_score(f, codes, score):
    idx = score(f.permute(0, 2, 3, 1)).argmin(-1)
    return f + (codes[idx].permute(0, 3, 1, 2) - f).detach()


def soft(f, codes):
    z = f.permute(0, 2, 3, 1)
    shares = (-(z[..., None, :] - codes).square().sum(-1)).softmax(-1)
    return (shares @ codes).permute(0, 3, 1, 2)


def in_place(codes, sums, weights, z, idx, decay):
    sums.mul_(decay).index_add_(0, idx, z, alpha=1 - decay)
    weights.mul_(decay).add_(torch.bincount(idx, minlength=len(codes)), alpha=1 - decay)
    alive = weights > 1e-3
    codes[alive] = sums[alive] / weights[alive, None]
    return codes, sums, weights


WRONG = [
    ("perplexity", entropy_of, "entropy in nats"),
    ("perplexity", lambda i, v: entropy_of(i, v, torch.log2), "entropy in bits"),
    ("perplexity", lambda i, v: 2 ** entropy_of(i, v), "bases do not match"),
    ("perplexity", lambda i, v: entropy_of(i, v, torch.log2).exp(), "bases do not match"),
    ("perplexity", lambda i, v: (-entropy_of(i, v)).exp(), "upside down"),
    ("perplexity", with_nan, "unused codes"),
    ("perplexity", lambda i, v: len(i.unique()), "counts the codes that occur"),
    ("perplexity", lambda i, v: len(i.unique()) / v, "that is the usage"),
    ("perplexity", lambda i, v: entropy_of(i, v).exp() / v, "share of V"),
    ("perplexity", lambda i, v: v, "equally frequent"),
    ("perplexity", lambda i, v: 1.5 + entropy_of(i, v), "should be 2.3811"),
    ("quantize", mixed_channels, "neighbouring pixels for channels"),
    ("quantize", channels_last, "should have the shape of f"),
    ("quantize", lambda f, e: channels_last(f, e, view=True), "permute them back"),
    ("quantize", lambda f, e: quantized(f, e, torch.argmax), "argmin, not argmax"),
    ("quantize", largest_product, "long codes win it"),
    ("quantize", lambda f, e: quantized(f, e, through=lambda f, q: q + (f - q).detach()), "that is f itself"),
    ("quantize", lambda f, e: quantized(f, e, through=lambda f, q: q.detach()), "f gets no gradient"),
    ("quantize", lambda f, e: quantized(f, e, through=lambda f, q: q), "f gets no gradient"),
    ("quantize", lambda f, e: quantized(f, e, through=lambda f, q: f + (q - f)), "f gets no gradient"),
    ("quantize", lambda f, e: quantized(f, e, through=lambda f, q: f - f.detach() + q), "codes get the picture"),
    ("quantize", lambda f, e: quantized(f, e, through=lambda f, q: 2 * f + (q - 2 * f).detach()), "unchanged"),
    ("ema_step", lambda *a: ema(*a[:-1], 1 - a[-1]), "you swapped the shares"),
    ("ema_step", lambda *a: ema(*a[:-1], 0.0), "the past is forgotten"),
    ("ema_step", lambda *a: ema(*a, add=True), "without forgetting"),
    ("ema_step", lambda *a: ema(*a, totals="means"), "averaged means"),
    ("ema_step", lambda *a: ema(*a, by="counts"), "counts of this batch"),
    ("ema_step", lambda *a: ema(*a, alive=False), "must stay where it is"),
    ("ema_step", lambda *a: ema(*a, move=False), "did not move"),
    ("ema_step", lambda *a: ema(*a)[0], "(codes, sums, weights)"),
    ("ema_step", lambda *a: (ema(*a)[0] / 0, *ema(*a)[1:]), "and is inf"),
    ("quantize", lambda f, e: soft(f, e), "weighted by softmax"),
    ("quantize", lambda f, e: by_score(f, e, lambda z: e.square().sum(-1) - z @ e.T), "the 2 is missing"),
    ("quantize", lambda f, e: 0 * f, "at [0, 0, 0, 0] it should be"),
    ("perplexity", lambda i, v: entropy_of(i, v) / entropy_of(i, v) * torch.nan, "holds nan"),
    ("ema_step", lambda *a: ema(*a, by="counts"), "counts of this batch"),
    ("ema_step", lambda *a: ema(*a, floor=0.01), "floor of the weights is 0.001"),
    ("ema_step", lambda *a: ema(*a, floor_of="old"), "compared the old weights"),
    ("ema_step", in_place, "you changed your input codes"),
]
