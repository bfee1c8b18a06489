"""The multi-scale residual quantizer of VAR: a feature map becomes token maps from coarse to fine.

Tian et al., 2024, section 3.2 and algorithms 1 and 2. Symbols as there: f the features, f_hat what the scales
so far explain, rest = f - f_hat, patch_nums the sides p_1 … p_K of the maps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.errors import UserError
from vartutor.tokenizer.vq import broadcast, count_hits, dead_codes, follow, nearest_code, straight_through

Size = tuple[int, int]
BETA = 0.25  # weight of the commitment loss
VOTES = ("scale", "token")  # who has a vote where a code goes: every scale alike, or every vector


def shrink(x: Tensor, size: Size) -> Tensor:
    """Mean over areas: (B, C, H, W) -> (B, C, h, w); the same tensor where the size is right already."""
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, size=size, mode="area")


class Phi(nn.Module):
    """φ_k: smooths an enlarged map, (1 - r) h + r conv(h); several scales may share one convolution.

    Args:
        channels: C.
        scales: K.
        shared: number of convolutions; 0 gives each scale its own.
        ratio: r; 0 leaves the map alone.
    """

    def __init__(self, channels: int, scales: int, shared: int = 4, ratio: float = 0.5):
        super().__init__()
        self.ratio = abs(ratio)
        count = shared or scales
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count))
        # Scale k stands at k / (K - 1) on a line; it takes the convolution with the nearest tick.
        margin = 1 / (3 * count) if count == 4 else 1 / (2 * count)
        ticks = torch.linspace(margin, 1 - margin, count, dtype=torch.float64, device="cpu")
        self.choice = [int((ticks - k / max(1, scales - 1)).abs().argmin()) for k in range(scales)]

    def forward(self, h: Tensor, k: int) -> Tensor:
        """(B, C, H, W) of scale k -> the same shape."""
        if self.ratio <= 1e-6:
            return h
        return (1 - self.ratio) * h + self.ratio * self.convs[self.choice[k]](h)


class MultiScaleQuantizer(nn.Module):
    """Quantizes a feature map as a sum of K enlarged token maps, with one codebook.

    Sides may repeat; the last one is that of the features. For features that are not square, or of another
    size, methods take ``sizes``, the (height, width) of every map.

    Args:
        patch_nums: p_1 … p_K.
        codes: V.
        channels: C.
        shared_phi, phi_ratio: see :class:`Phi`.
        metric: ``euclidean`` or ``cosine``.

    Attributes:
        codes: (V, C) codebook.
        hits: (K, V) moving average of how often each scale of a batch uses each code.
        deferred: whether hits and codes wait for :meth:`settle`, once for several batches that count as one; else they
            move with every batch.

    Raises:
        UserError: an empty ladder, or a size below 1.
    """

    def __init__(
        self,
        patch_nums: Sequence[int],
        codes: int = 4096,
        channels: int = 32,
        *,
        shared_phi: int = 4,
        phi_ratio: float = 0.5,
        metric: str = "euclidean",
    ):
        super().__init__()
        if not patch_nums or min(*patch_nums, codes, channels) < 1:
            raise UserError(f"sides {tuple(patch_nums)}, {codes} codes of {channels}: give sides and numbers from 1 on")
        self.patch_nums, self.metric = tuple(patch_nums), metric
        self.codes = nn.Parameter(torch.randn(codes, channels) / channels**0.5)
        self.phi = Phi(channels, len(patch_nums), shared_phi, phi_ratio)
        self.register_buffer("hits", torch.zeros(len(patch_nums), codes))
        self.seen: dict[int, Tensor] = {}  # the vectors that codes last moved to, per scale
        self.decay, self.votes = None, "scale"
        self.deferred, self.waiting = False, []

    @property
    def tokens(self) -> int:
        """L, the number of tokens of a square image."""
        return sum(p * p for p in self.patch_nums)

    def use_moving_averages(self, decay: float = 0.99, votes: str = "scale") -> None:
        """From now on in training, the codes follow the moving mean of their vectors instead of a gradient.

        They keep up better with an encoder that is learning. φ still learns by the loss.

        Args:
            votes: ``scale``: the vectors of every scale together count alike, as in the loss; ``token``: every vector
                does, and the finest scale, which has most of them, takes the codes of the coarse ones.

        Raises:
            UserError: other votes.
        """
        if votes not in VOTES:
            raise UserError(f"votes {votes!r}: choose {' or '.join(VOTES)}")
        self.decay, self.votes = decay, votes
        self.codes.requires_grad_(False)
        self.register_buffer("sums", self.codes.detach().clone())
        self.register_buffer("weights", torch.ones(len(self.codes), device=self.codes.device))

    def _sizes(self, sizes: Sequence[Size] | None) -> list[Size]:
        sizes = list(sizes or [(p, p) for p in self.patch_nums])
        if len(sizes) != len(self.patch_nums):
            raise UserError(f"{len(sizes)} sizes for a ladder of {len(self.patch_nums)} scales")
        return sizes

    def lookup(self, z: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h * w) int64: the nearest codes in row-major order."""
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        return nearest_code(flat, self.codes, metric=self.metric).view(len(z), -1)

    def embed(self, idx: Tensor, size: Size) -> Tensor:
        """(B, h * w) indices -> (B, C, h, w) codes."""
        return F.embedding(idx, self.codes).transpose(1, 2).unflatten(2, size)

    def enlarge(self, codes: Tensor, size: Size, k: int) -> Tensor:
        """h_k = φ_k(bicubic(codes)), what scale k adds to f_hat: (B, C, h, w) -> (B, C, height, width)."""
        if tuple(codes.shape[-2:]) != tuple(size):
            codes = F.interpolate(codes, size=size, mode="bicubic")
        return self.phi(codes, k)

    @torch.no_grad()
    def tokenize(self, f: Tensor, sizes: Sequence[Size] | None = None) -> list[Tensor]:
        """Features (B, C, H, W) -> K index maps (B, h_k * w_k) int64 (algorithm 1).

        Raises:
            UserError: the last size is not that of the features.
        """
        return [idx for idx, *_ in self._scales(f, sizes)]

    def _scales(self, f: Tensor, sizes: Sequence[Size] | None):
        """Yield (idx_k, z_k, f_hat_k, f): tokens, what was looked up, the sum so far, and the features it aims at."""
        sizes = self._sizes(sizes)
        if tuple(sizes[-1]) != tuple(f.shape[-2:]):
            raise UserError(f"features of {tuple(f.shape[-2:])}, but the ladder ends at {tuple(sizes[-1])}")
        f_hat, rest = torch.zeros_like(f), f.detach()
        for k, size in enumerate(sizes):
            z = shrink(rest, size)  # (B, C, h_k, w_k)
            idx = self.lookup(z)  # (B, h_k * w_k)
            h = self.enlarge(self.embed(idx, size), f.shape[-2:], k)  # (B, C, H, W)
            f_hat, rest = f_hat + h, rest - h.detach()
            yield idx, z, f_hat, f

    def forward(
        self, f: Tensor, sizes: Sequence[Size] | None = None, skip: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Quantize for training.

        Args:
            f: (B, C, H, W) features.
            skip: (B,) bool, the images whose features go on unquantized (HART: Tang et al., 2024), so that the decoder
                also learns what codes cannot say.

        Returns:
            f_hat (B, C, H, W) with the encoder's straight-through gradient; the K index maps; the loss
            mean_k β ‖f - sg[f_hat_k]‖² + ‖f_hat_k - sg[f]‖², by which codes and φ learn.
        """
        latents, indices, loss = self._fit(f, sizes, skip)
        return latents[-1], indices, loss

    def _fit(self, f, sizes: Sequence[Size] | None, skip: Tensor | None) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """f_hat after every scale, straight-through; the tokens; the mean loss. Learns from them while training."""
        latents, indices, vectors, losses = [], [], [], []
        for idx, z, f_hat, target in self._scales(f, sizes):
            losses.append(BETA * F.mse_loss(f_hat.detach(), target) + F.mse_loss(f_hat, target.detach()))
            latents.append(straight_through(target, f_hat))
            indices.append(idx)
            vectors.append(z)
            if skip is not None:
                latents[-1] = torch.where(skip[:, None, None, None], target, latents[-1])
        if self.training:
            flat = [z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1]) for z in vectors]
            self.waiting.append((indices, flat))
            if not self.deferred:
                self.settle()
        return latents, indices, sum(losses) / len(losses)

    @torch.no_grad()
    def settle(self) -> None:
        """Count hits, and move the codes if they follow averages: once, for all batches since the last time."""
        rounds, self.waiting = self.waiting, []
        if not rounds:
            return
        indices = [torch.cat([idx.flatten() for idx in maps]) for maps in zip(*(idx for idx, _ in rounds), strict=True)]
        self.seen = {k: torch.cat(maps) for k, maps in enumerate(zip(*(z for _, z in rounds), strict=True))}
        for k, idx in enumerate(indices):
            self.hits[k].lerp_(count_hits(idx, self.hits.shape[1]), 0.01)
        if self.decay is not None:
            idx, z = torch.cat(indices), torch.cat(list(self.seen.values()))
            follow(self.codes, self.sums, self.weights, z, idx, self.decay, self._votes(indices))

    def _votes(self, indices: Sequence[Tensor]) -> Tensor | None:
        if self.votes == "token":
            return None
        counts = [idx.numel() for idx in indices]
        each = [sum(counts) / (len(counts) * count) for count in counts]
        return torch.cat([torch.full((n,), w, device=self.codes.device) for n, w in zip(counts, each, strict=True)])

    @torch.no_grad()
    def revive(self, share: float = 0.05) -> int:
        """Move codes that get less than ``share`` of an even portion of the hits to vectors that were last seen.

        Every scale's hits count alike, as the votes do. And every scale gives equally many vectors, else the finest,
        which has most tokens, would give nearly all.

        Returns:
            how many codes moved; 0 before the first training step.
        """
        hits = self.hits if self.votes == "token" else F.normalize(self.hits, p=1, dim=1)
        dead = dead_codes(hits.sum(0), share)
        if not len(dead) or not self.seen:
            return 0
        draws = zip(torch.randint(len(self.seen), (len(dead),)).tolist(), torch.rand(len(dead)).tolist(), strict=True)
        chosen = [self.seen[k][int(u * len(self.seen[k]))] for k, u in draws]
        self.codes.data[dead] = broadcast(torch.stack(chosen).to(self.codes))
        self.hits[:, dead] = self.hits.mean()
        if self.decay is not None:
            self.sums[dead], self.weights[dead] = self.codes[dead].detach(), 1.0
        return len(dead)

    def usage(self, threshold: float) -> Tensor:
        """(K,) share of the codes whose moving average of hits is at least ``threshold``, per scale, 0 to 1."""
        return (self.hits >= threshold).float().mean(1)

    def step(
        self, f_hat: Tensor | None, idx: Tensor, k: int, sizes: Sequence[Size] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Add scale k's tokens to f_hat (B, C, H, W), which is None before the first.

        Args:
            idx: (B, h_k * w_k) int64 tokens; or (B, h_k * w_k, C) vectors in their place, such as a mean of codes.

        Returns:
            the new f_hat, and the transformer's input for scale k + 1: f_hat at that scale's size
            (after the last scale f_hat itself).
        """
        sizes = self._sizes(sizes)
        h = self.enlarge(self._vectors(idx, sizes[k]), sizes[-1], k)  # (B, C, H, W)
        f_hat = h if f_hat is None else f_hat + h
        if k + 1 == len(sizes):
            return f_hat, f_hat
        return f_hat, shrink(f_hat, sizes[k + 1])  # the latter (B, C, h, w) of map k + 1

    def _vectors(self, idx: Tensor, size: Size) -> Tensor:
        return idx.transpose(1, 2).unflatten(2, size) if idx.is_floating_point() else self.embed(idx, size)

    def rest(self, f: Tensor, f_hat: Tensor | None, k: int, sizes: Sequence[Size] | None = None) -> Tensor:
        """What the tokens of scale k are to explain of f, given f_hat before it: (B, h_k * w_k, C)."""
        rest = f if f_hat is None else f - f_hat
        return shrink(rest, self._sizes(sizes)[k]).flatten(2).transpose(1, 2)

    def latents(self, indices: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> list[Tensor]:
        """Index maps, all K or the first few -> f_hat (B, C, H, W) after each of them (algorithm 2)."""
        return [f_hat for f_hat, _ in self._steps(indices, sizes)]

    def next_inputs(self, indices: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> Tensor:
        """Teacher-forcing inputs of scales 2 … K: index maps -> (B, L - p_1², C).

        The input of scale k + 1 is the accumulated f_hat after scale k, not the embedding of its tokens.
        """
        maps = [following.flatten(2).transpose(1, 2) for _, following in self._steps(indices, sizes)]  # (B, h w, C)
        return torch.cat(maps[: len(self.patch_nums) - 1], dim=1)

    def _steps(self, indices: Sequence[Tensor], sizes: Sequence[Size] | None):
        f_hat = None
        for k, idx in enumerate(indices):
            f_hat, following = self.step(f_hat, idx, k, sizes)
            yield f_hat, following
