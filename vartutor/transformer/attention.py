"""Self-attention of VAR's transformer: normalised queries and keys, a cache, and positions as rotations.

Tian et al., 2024, appendix; rotary positions on a grid that all scales share after Qu et al., 2025, section 3.2.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

View = tuple[int, tuple[slice, ...]]
MAX_SCALE = math.log(100)
FRAME = 32.0  # side of the common frame of all maps, in units of angle


class Cache:
    """Keys and values of one layer, in memory that is allocated once.

    Args:
        batch, heads, length, dim: of the whole sequence.
        like: a tensor of any shape, whose type and device to take.
    """

    def __init__(self, batch: int, heads: int, length: int, dim: int, like: Tensor):
        self.k, self.v = (like.new_empty(batch, heads, length, dim) for _ in range(2))
        self.filled = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, heads, n, dim) each; returns all keys and values so far."""
        end = self.filled + k.shape[2]
        self.k[:, :, self.filled : end], self.v[:, :, self.filled : end] = k, v
        self.filled = end
        return self.k[:, :, :end], self.v[:, :, :end]


def block_causal(lengths: Sequence[int], branches: int = 1) -> list[View]:
    """What every token may look at: its own scale, and all scales before it.

    Args:
        lengths: tokens of every scale; the first may include a prefix.
        branches: several sequences that share the first scale and stand one after the other; none sees another.

    Returns:
        for every scale in the order of the sequence: its number of queries, and the ranges of keys they see.
    """
    first, rest = lengths[0], sum(lengths[1:])
    views = [(first, (slice(0, first),))]
    for branch in range(branches):
        begin = end = first + branch * rest
        for count in lengths[1:]:
            end += count
            views.append((count, (slice(0, first), slice(begin, end)) if branch else (slice(0, end),)))
    return views


def as_mask(views: Sequence[View]) -> Tensor:
    """The same as (L, L) bool, True where a query may look: for pictures, and for attention by hand."""
    counts = [count for count, _ in views]
    mask = torch.zeros(sum(counts), sum(counts), dtype=torch.bool)
    for rows, (_, seen) in zip(mask.split(counts), views, strict=True):
        for keys in seen:
            rows[:, keys] = True
    return mask


def attend(q: Tensor, k: Tensor, v: Tensor, views: Sequence[View] | None = None, scale: float | None = None) -> Tensor:
    """Attention of (B, heads, L, dim), one plain call per scale on the keys it sees.

    The sums are those of one call with a mask. But no pair that the mask forbids is computed, and GPUs may use their
    fastest kernel, which takes no mask.

    Args:
        views: of :func:`block_causal`; None lets every query see every key.
        scale: of the products; 1 / √dim if left out.
    """
    if views is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    parts = []
    for queries, (_, seen) in zip(q.split([count for count, _ in views], 2), views, strict=True):
        keys, values = _take(k, seen), _take(v, seen)  # (B, heads, keys seen, dim)
        parts.append(F.scaled_dot_product_attention(queries, keys, values, scale=scale))
    return torch.cat(parts, 2)


def _take(x: Tensor, seen: tuple[slice, ...]) -> Tensor:
    """A view where one range is seen, without a copy."""
    return x[:, :, seen[0]] if len(seen) == 1 else torch.cat([x[:, :, part] for part in seen], 2)


def grid_angles(sizes: Sequence[tuple[int, int]], dim: int, *, centred: bool = True) -> Tensor:
    """Angles of the rotary embedding for maps of several sizes on one common frame.

    The position in row i of h stands at (i + ½) / h of the frame, so that a coarse token and the fine tokens
    under it have neighbouring coordinates. Half of the pairs of channels turn with the row, half with the column.

    Args:
        sizes: (height, width) of every map, in the order of the sequence.
        dim: channels of a head, a multiple of 4.
        centred: False puts positions at i / h, as VARSR does.

    Returns:
        (L, dim / 2).
    """
    speed = 10000.0 ** (-torch.arange(dim // 4).float() / (dim // 4))  # (dim / 4,)
    shift = 0.5 if centred else 0.0
    parts = []
    for h, w in sizes:
        rows, columns = (torch.arange(n) + shift for n in (h, w))
        y = (rows / h * FRAME)[:, None].expand(h, w).flatten()  # (h w,)
        x = (columns / w * FRAME).expand(h, w).flatten()
        parts.append(torch.cat([y[:, None] * speed, x[:, None] * speed], 1))  # (h w, dim / 2)
    return torch.cat(parts)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring pairs of channels: (B, heads, L, dim) by (L, dim / 2)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)  # (B, heads, L, dim / 2) each
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Args:
        width: D.
        heads: H; a head has D / H channels.
        l2_norm: make queries and keys unit vectors, and learn one temperature per head; False divides by
            4 √dim, as VAR without this option does.
    """

    def __init__(self, width: int, heads: int, l2_norm: bool = True):
        super().__init__()
        self.heads, self.l2_norm = heads, l2_norm
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        if l2_norm:
            self.log_scale = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4)))
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        views: Sequence[View] | None = None,
        angles: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D).

        Args:
            views: what the queries see, of :func:`block_causal`; None lets them look everywhere.
            angles: (L, dim / 2) of :func:`grid_angles`, or None.
            cache: holds the keys and values of earlier calls, and gets those of this one.
        """
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))  # (B, L, 3, heads, dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, L, dim) each
        scale = 0.25 / q.shape[-1] ** 0.5
        if self.l2_norm:
            scale = 1.0
            q = F.normalize(q, dim=-1) * self.log_scale.clamp(max=MAX_SCALE).exp()
            k = F.normalize(k, dim=-1)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, heads, all so far, dim)
        # Norms leave float32 under a GPU's autocast: cast once here, or every call below would cast its keys again.
        h = attend(q.to(v.dtype), k.to(v.dtype), v, views, scale)  # (B, heads, L, dim)
        return self.proj(h.transpose(1, 2).flatten(2))
