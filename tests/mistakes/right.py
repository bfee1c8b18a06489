"""Right answers that are not the solutions: other formulas, other orders, in place on copies."""

import itertools
import math
import statistics

import numpy as np
import torch
import torch.nn.functional as F


def kept_rest(z, books):
    rest, indices = z.clone(), torch.empty(len(z), len(books), dtype=torch.long)
    for m, codes in enumerate(books):
        indices[:, m] = (codes.square().sum(1) - 2 * rest @ codes.T).argmin(1)
        rest -= codes[indices[:, m]]
    return indices


def coarse_in_place(x, sizes):
    rest, parts = x.clone(), []
    for p in sizes:
        parts.append(F.adaptive_avg_pool2d(rest, p))
        rest -= F.interpolate(parts[-1], size=tuple(x.shape[2:]), mode="bicubic")
    return tuple(parts)


def pooled(values, photos):
    """Photos are drawn, and all crops of the drawn ones averaged."""
    rng = np.random.default_rng(11)
    groups = [values[photos == name] for name in np.unique(photos)]
    draws = [rng.integers(len(groups), size=len(groups)) for _ in range(3000)]
    return np.quantile([np.concatenate([groups[i] for i in draw]).mean() for draw in draws], [0.025, 0.975])


class Through(torch.autograd.Function):
    """Straight-through as a function with a gradient of its own."""

    @staticmethod
    def forward(ctx, f, q):
        return q.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def quantized(f, codes):
    z = f.detach().movedim(1, -1).reshape(-1, f.shape[1])
    idx = (codes.square().sum(1) - 2 * z @ codes.T).argmin(1)
    q = codes[idx].detach().view(len(f), *f.shape[2:], -1).movedim(-1, 1)
    return Through.apply(f, q)


def copied_averages(codes, sums, weights, z, idx, decay):
    codes, sums, weights = codes.clone(), sums.clone(), weights.clone()
    hits = F.one_hot(idx, len(codes)).float()
    sums.mul_(decay).add_(hits.T @ z, alpha=1 - decay)
    weights.mul_(decay).add_(hits.sum(0), alpha=1 - decay)
    alive = weights >= 1e-3
    codes[alive] = sums[alive] / weights[alive, None]
    return [codes, sums, weights]


def tensor_beam(z, books, beam):
    rests, paths = z[None], torch.empty(1, 0, dtype=torch.long)
    for codes in books:
        after = rests[:, None] - codes
        order = after.square().sum(-1).flatten().argsort()[:beam]
        start, j = order // len(codes), order % len(codes)
        rests, paths = after[start, j], torch.cat([paths[start], j[:, None]], 1)
    return paths[0]


def pooled_map(rest, codes, p):
    z = F.adaptive_avg_pool2d(rest, p).flatten(2).mT
    return torch.cdist(z, codes.expand(len(z), -1, -1)).argmin(-1)


def pyramid(f, codes, sides, phi, first=0):
    rest, maps = f.clone(), []
    for p in sides:
        maps.append(pooled_map(rest, codes, p))
        wide = F.interpolate(codes[maps[-1]].mT.reshape(len(f), -1, p, p), size=f.shape[2:], mode="bicubic")
        rest -= phi(wide, first + len(maps) - 1)
    return tuple(maps), f - rest


def inputs(maps, codes, sides, phi):
    total, out = torch.zeros(len(maps[0]), codes.shape[1], sides[-1], sides[-1]), []
    for k in range(1, len(sides)):
        p = sides[k - 1]
        small = codes[maps[k - 1]].movedim(-1, 1).reshape(len(total), -1, p, p)
        total += phi(F.interpolate(small, size=total.shape[2:], mode="bicubic"), k - 1)
        out.append(F.adaptive_avg_pool2d(total, sides[k]).flatten(2).mT)
    return torch.cat(out, dim=1)


def hierarchy(features, codes, groups, phi, bridge):
    f_hat, maps, ends = torch.zeros(1), [], []
    for f, sides in zip(features, groups, strict=True):
        f_hat = bridge(f_hat, f.shape[2:]) if maps else torch.zeros_like(f)
        own, parts = pyramid(f - f_hat, codes, sides, phi, len(maps))
        f_hat = f_hat + parts
        maps += own
        ends.append(f_hat)
    return maps, ends


def across(maps, codes, groups, phi, bridge):
    f_hat, out, k, sides = None, [], 0, [p for group in groups for p in group]
    for group in groups:
        size = (group[-1],) * 2
        if f_hat is not None:
            f_hat = bridge(f_hat, size)
        for p in group:
            if f_hat is not None:
                out.append(F.interpolate(f_hat, size=(p, p), mode="area").flatten(2).mT)
            h = phi(F.interpolate(codes[maps[k]].mT.unflatten(2, (p, p)), size=size, mode="bicubic"), k)
            f_hat, k = h if f_hat is None else f_hat + h, k + 1
    assert k == len(sides)
    return torch.cat(out, 1)


def looped_mask(patch_nums):
    total = sum(p * p for p in patch_nums)
    mask, end = torch.zeros(total, total, dtype=torch.bool), 0
    for p in patch_nums:
        mask[end : end + p * p, : end + p * p] = True
        end += p * p
    return mask


def cut_copy(logits, p):
    """Row by row, in place on a copy."""
    out = logits.clone()
    for row in out:
        total = 0.0
        chances = row.softmax(0)
        for j in chances.argsort(descending=True):
            if total >= p:
                row[j] = -math.inf
            total += float(chances[j])
    return out


def list_cache(q, k, v, cache):
    """The cache holds lists, one entry per map."""
    cache.setdefault("all", []).append((k, v))
    keys, values = (torch.cat(part, 2) for part in zip(*cache["all"], strict=True))
    return F.scaled_dot_product_attention(q, keys, values)


def unfolded(photo, p):
    return F.unfold(photo, p, stride=p).transpose(1, 2)


def masked_mean(logits, codes, temperature, top):
    least = logits.topk(top).values[:, -1:]
    return (logits / temperature).masked_fill(logits < least, -torch.inf).softmax(-1) @ codes


def column_by_column(tiles, lefts, width):
    n, columns = tiles.shape[-1], []
    for x in range(width):
        here = [
            (min(x - left, n - 1 - x + left) + 1, t) for t, left in zip(tiles, lefts, strict=True) if 0 <= x - left < n
        ]
        lefts_here = [left for left in lefts if 0 <= x - left < n]
        total = sum(w * t[..., x - left] for (w, t), left in zip(here, lefts_here, strict=True))
        columns.append(total / sum(w for w, _ in here))
    return torch.stack(columns, -1)


def by_kl(logits, goals, codes, tau):
    """Cross entropy is the divergence from the targets, plus their entropy."""
    far = torch.cdist(goals, codes).pow(2)
    t = F.softmax(-far / tau / far.min(-1).values[..., None], dim=2)
    return F.kl_div(F.log_softmax(logits, 2), t, reduction="none").sum(2) - torch.xlogy(t, t).sum(2)


def by_cross_entropy(logits, tokens, squares):
    each = -F.cross_entropy(logits.mT, tokens, reduction="none")
    ends = np.cumsum([0, *squares])
    return torch.stack([each[:, a:b].mean(1) for a, b in itertools.pairwise(ends)], dim=1)


def beta_by_kth(margins, edge, share):
    count = math.ceil(round((1 - share) * len(margins), 6))
    return -math.log(edge / (1 - edge)) / margins.abs().kthvalue(count).values


def search_law(sizes, losses):
    """A coarse search, then a fine one, with least squares by hand."""
    N, L = np.array(sizes), np.array(losses)

    def fit(alpha):
        x = N**-alpha
        A = ((x - x.mean()) * (L - L.mean())).sum() / ((x - x.mean()) ** 2).sum()
        E = L.mean() - A * x.mean()
        return ((E + A * x - L) ** 2).sum(), E, A, alpha

    best = min(map(fit, np.arange(0.01, 1, 0.01)))
    return min(map(fit, np.arange(best[3] - 0.01, best[3] + 0.01, 0.0005)))[1:]


def coarse_law(sizes, losses):
    """Hundred exponents, none of which is the right one."""
    N, L = np.array(sizes, dtype=float), np.array(losses)
    fits = []
    for alpha in np.linspace(0.05, 1, 100):
        (E, A), error, *_ = np.linalg.lstsq(np.stack([np.ones_like(N), N**-alpha], 1), L, rcond=None)
        fits.append((float(error[0]), E, A, alpha))
    return min(fits)[1:]


def interleaved(step, batch, rounds, size, rank):
    """Every process reads each so-manieth number."""
    mine = range(step * batch + rank, (step + 1) * batch, size)
    own = len(mine) // rounds
    return [list(mine[k * own : (k + 1) * own]) for k in range(rounds)]


def by_autograd(margins, beta, total):
    m = margins.clone().requires_grad_()
    M = m.sum(1) if total else m.mean(1)
    (-F.logsigmoid(beta * M)).mean().backward()
    return m.grad


def unbeaten(points):
    kept = []
    for name, (psnr, distance) in points.items():
        others = [q for other, q in points.items() if other != name]
        worse = any(q[0] >= psnr and q[1] <= distance and q != (psnr, distance) for q in others)
        if not worse:
            kept.append(name)
    return kept


RIGHT = [
    ("ch00", "count_tokens", lambda p: int(np.square(p).sum())),
    ("ch00", "count_tokens", lambda p: torch.tensor(p).square().sum()),
    ("ch00", "to_pixels", lambda x: x.clamp(-1, 1).add(1).mul(127.5).add(0.5).floor().byte()),
    ("ch00", "to_pixels", lambda x: (x.clone().clamp_(-1, 1) * 127.5 + 127.5).round_().to(torch.uint8)),
    ("ch00", "coarse_to_fine", coarse_in_place),
    ("ch01", "psnr", lambda x, y: -10 * math.log10(float(F.mse_loss(x.clamp(-1, 1), y.clamp(-1, 1))) / 4)),
    ("ch01", "psnr", lambda x, y: 20 * torch.log10(2 / (y - x).square().mean(dim=(1, 2, 3)).sqrt())),
    ("ch01", "same_lr", lambda x, n: n - F.avg_pool2d(n, 4).repeat_interleave(4, 2).repeat_interleave(4, 3) + x),
    ("ch01", "photo_interval", pooled),
    (
        "ch02",
        "perplexity",
        lambda i, v: 2 ** -sum(p * math.log2(p) for p in (i.unique(return_counts=True)[1] / i.numel()).tolist()),
    ),
    ("ch02", "quantize", quantized),
    ("ch02", "ema_step", copied_averages),
    ("ch03", "residual_quantize", kept_rest),
    ("ch03", "gap_to_bound", lambda d, m, v, c: 10 * math.log10(d) + 20 * m / c * math.log10(v)),
    ("ch03", "beam_search", tensor_beam),
    ("ch04", "token_map", pooled_map),
    ("ch04", "multiscale", pyramid),
    ("ch04", "next_inputs", inputs),
    ("ch05", "canvas", lambda k, groups: [g[-1] for g in groups for _ in g][k]),
    ("ch05", "hierarchical", hierarchy),
    ("ch05", "next_inputs", across),
    ("ch06", "block_mask", looped_mask),
    ("ch06", "top_p", cut_copy),
    ("ch06", "cached_attention", list_cache),
    ("ch07", "patches", unfolded),
    ("ch07", "expected_code", masked_mean),
    ("ch07", "soft_loss", by_kl),
    ("ch07", "blend", column_by_column),
    ("ch08", "dpo_loss", lambda hr, lr, beta: F.softplus(beta * lr - beta * hr)),
    ("ch08", "scale_logps", by_cross_entropy),
    ("ch08", "largest_beta", beta_by_kth),
    ("ch09", "differences", lambda a, b: [statistics.fmean(a[n]) - statistics.fmean(b[n]) for n in a if n in b]),
    ("ch09", "interval", lambda v, c, level: np.percentile(np.take(v, c).mean(1), [50 - 50 * level, 50 + 50 * level])),
    ("ch09", "front", unbeaten),
    ("ch10", "block_flops", lambda n, d: 2 * (12 * d * d * n + 2 * n * n * d)),
    ("ch10", "mean_gradient", lambda g, c: torch.tensordot(torch.tensor(c) / sum(c), torch.stack(g), 1)),
    ("ch10", "fit_law", search_law),
    ("ch10", "fit_law", coarse_law),
    ("ch11", "rounds", lambda b, g, n: next(k for k in range(1, b + 1) if b % (g * k) == 0 and b <= g * k * n)),
    ("ch11", "price", lambda f, s, g, k, u, p: [f * s / k / u / g / 3600, f * s / k / u / 3600 * p]),
    ("ch11", "shares", interleaved),
    ("ch12", "steps", lambda n, b, e: int(n * e / b + 0.5)),
    ("ch12", "middle", lambda h, w: [[h // 2 - 64, w // 2 - 64], [h // 2 * 4 - 256, w // 2 * 4 - 256]]),
    ("ch12", "pull", by_autograd),
]
