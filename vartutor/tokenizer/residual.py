"""Residual vector quantization: each stage quantizes what the stages before it left over.

Juang and Gray, 1982 (as multistage vector quantization); Zeghidour et al., 2021, section III-C (quantizer
dropout); Lee et al., 2022, section 3.1 (one codebook for all stages, and the loss on partial sums).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.errors import UserError
from vartutor.tokenizer.vq import VectorQuantizer, broadcast, straight_through, usage

MAX_ELEMENTS = 2**20  # distances held at once by the beam search
POOLINGS = 3


class ResidualQuantizer(nn.Module):
    """M vector quantizers in a row; a vector becomes M indices, and the sum of their codes.

    Args:
        stages: number of stages M.
        size: number of codes V of a codebook.
        dim: length C of a vector.
        shared: one codebook for all stages instead of M.
        dropout: probability that a training batch goes through the first m stages only, m uniform in 1..M.
        learn: the codes follow the ``loss``, or an exponential moving average of their vectors (``ema``).
        decay: of the moving averages.

    Attributes:
        books: the codebooks, M of them or one; each is a :class:`~vartutor.tokenizer.vq.VectorQuantizer`.

    Raises:
        UserError: a size below 1, a probability outside 0..1, an unknown way of learning.
    """

    def __init__(
        self,
        stages: int,
        size: int,
        dim: int,
        *,
        shared: bool = False,
        dropout: float = 0.0,
        learn: str = "loss",
        decay: float = 0.99,
    ):
        super().__init__()
        for name, value in (("stages", stages), ("size", size), ("dim", dim)):
            if value < 1:
                raise UserError(f"{name} = {value}: give a whole number of at least 1")
        if not 0 <= dropout <= 1:
            raise UserError(f"dropout = {dropout}: give a probability, from 0 to 1")
        self.stages, self.size, self.dim, self.shared, self.dropout = stages, size, dim, shared, dropout
        self.learn = learn
        count = 1 if shared else stages
        self.books = nn.ModuleList(VectorQuantizer(size, dim, learn=learn, decay=decay) for _ in range(count))

    @property
    def bits(self) -> float:
        """M log2 V: bits that name one vector."""
        return self.stages * math.log2(self.size)

    def book(self, k: int) -> VectorQuantizer:
        """The codebook of stage k, 0 to M - 1."""
        return self.books[0 if self.shared else k]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize, and while training also count hits and drop stages.

        Args:
            z: (N, C), or a feature map (B, C, H, W).

        Returns:
            the quantized vectors in the shape of z, with the straight-through gradient; indices (N, M) or
            (B, H, W, M) int64, -1 where a stage was dropped; the loss mean_k ‖sg[z] - z_k‖² + β ‖z - sg[z_k]‖²
            over the partial sums z_k of the stages used (its first term only if the codes learn by it).

        Raises:
            UserError: z has another shape.
        """
        flat = self._flat(z)
        used = self._draw_stages(z.device) if self.training else self.stages
        indices, rests, losses = [], [], []
        total, rest = torch.zeros_like(flat), flat.detach()
        for k in range(used):
            book = self.book(k)
            idx = book.lookup(rest)
            code = F.embedding(idx, book.codes)
            indices.append(idx)
            rests.append(rest)
            total, rest = total + code, rest - code.detach()
            loss = 0.25 * F.mse_loss(flat, total.detach())
            losses.append(loss + F.mse_loss(total, flat.detach()) if self.learn == "loss" else loss)
        if self.training:
            self._observe(rests, indices)
        idx = torch.stack(indices, dim=1)
        idx = F.pad(idx, (0, self.stages - used), value=-1)
        out = straight_through(flat, total)
        if z.ndim == 4:
            out = out.view(len(z), *z.shape[2:], -1).permute(0, 3, 1, 2)
            idx = idx.view(len(z), *z.shape[2:], -1)
        return out, idx, sum(losses) / used

    def _flat(self, z: Tensor) -> Tensor:
        if z.ndim not in (2, 4) or z.shape[1] != self.dim:
            raise UserError(f"vectors of shape {tuple(z.shape)}: give (N, {self.dim}) or (B, {self.dim}, H, W)")
        return z if z.ndim == 2 else z.permute(0, 2, 3, 1).reshape(-1, self.dim)

    def _draw_stages(self, device: torch.device) -> int:
        if self.dropout == 0:
            return self.stages
        # All processes must use the same stages: each stage's counts are summed over them.
        coin, stages = broadcast(torch.rand(2, device=device)).tolist()
        return min(self.stages, 1 + int(stages * self.stages)) if coin < self.dropout else self.stages

    def _observe(self, rests: list[Tensor], indices: list[Tensor]) -> None:
        if self.shared:
            rests, indices = [torch.cat(rests)], [torch.cat(indices)]
        for book, rest, idx in zip(self.books, rests, indices, strict=False):
            book.observe(rest, idx)

    @torch.no_grad()
    def tokenize(self, z: Tensor, beam: int = 1) -> Tensor:
        """(N, C) -> (N, M) int64, or (B, C, H, W) -> (B, H, W, M); see :meth:`lookup`."""
        idx = self.lookup(z, beam)
        return idx if z.ndim == 2 else idx.view(len(z), *z.shape[2:], -1)

    @torch.no_grad()
    def lookup(self, z: Tensor, beam: int = 1) -> Tensor:
        """Indices of the codes whose sum is near each vector.

        Args:
            z: (N, C), or (B, C, H, W), whose N = B H W positions are taken row by row.
            beam: 1 takes the nearest code at each stage (greedy). More keeps that many best partial sums of every
                vector from stage to stage; a vector's error is never larger than with 1. Time grows with it.

        Returns:
            (N, M) int64.

        Raises:
            UserError: z has another length, or the beam is below 1.
        """
        z = self._flat(z)
        if beam < 1:
            raise UserError(f"beam = {beam}: give a whole number of at least 1")
        greedy = torch.stack([idx for idx, _ in self._greedy(z)], dim=1)
        if beam == 1 or not len(z):
            return greedy
        rows = max(1, MAX_ELEMENTS // (beam * self.size))
        found = torch.cat([self._beam(part, beam) for part in z.float().split(rows)])
        # The greedy path may fall out of the beam half way and still be the best in the end.
        worse = (z - self.decode(found)).square().sum(1) > (z - self.decode(greedy)).square().sum(1)
        return torch.where(worse[:, None], greedy, found)

    def _greedy(self, z: Tensor):
        """Yield each stage's indices (N,) and the rest (N, C) that it was given."""
        rest = z.detach().float()
        for k in range(self.stages):
            book = self.book(k)
            idx = book.lookup(rest)
            yield idx, rest
            rest = rest - F.embedding(idx, book.codes)

    def _seen(self, z: Tensor) -> Tensor:
        """(N, C) -> (M N, C): what all stages are given."""
        return torch.cat([rest for _, rest in self._greedy(z)])

    def _beam(self, z: Tensor, beam: int) -> Tensor:
        rest, paths = z[:, None], z.new_zeros(len(z), 1, 0, dtype=torch.long)  # (N, beam so far, C), (…, stages so far)
        for k in range(self.stages):
            codes = self.book(k).codes.float()
            # |rest - e|² = |rest|² + |e|² - 2 rest·e; here the first term counts, for it differs between the paths.
            norms = rest.square().sum(2, keepdim=True) + codes.square().sum(1)
            errors = torch.baddbmm(norms, rest, codes.T.expand(len(z), -1, -1), alpha=-2).flatten(1)
            best = errors.topk(min(beam, errors.shape[1]), dim=1, largest=False).indices  # (N, beam)
            parent, idx = best // self.size, best % self.size
            rest = rest.gather(1, parent[..., None].expand(-1, -1, self.dim)) - F.embedding(idx, codes)
            paths = torch.cat([paths.gather(1, parent[..., None].expand(-1, -1, k)), idx[..., None]], dim=2)
        return paths[:, 0]  # topk sorts: the best path comes first

    def latents(self, idx: Tensor) -> list[Tensor]:
        """Partial sums: indices (..., m) of the first m <= M stages -> m tensors (..., C), one after each stage.

        An index of -1 adds nothing.

        Raises:
            UserError: more stages than there are, or an index without a code.
        """
        if idx.shape[-1] > self.stages:
            raise UserError(f"indices of {idx.shape[-1]} stages for a quantizer of {self.stages}")
        if idx.numel() and not -1 <= int(idx.min()) <= int(idx.max()) < self.size:
            raise UserError(f"index outside 0..{self.size - 1} (-1 for a dropped stage)")
        total, sums = 0, []
        for k in range(idx.shape[-1]):
            code = F.embedding(idx[..., k].clamp(min=0), self.book(k).codes)
            total = total + code * (idx[..., k, None] >= 0)
            sums.append(total)
        return sums

    def decode(self, idx: Tensor) -> Tensor:
        """Sum of the codes: indices (..., m) of the first m stages, 1 <= m <= M -> (..., C); see :meth:`latents`."""
        if not idx.shape[-1]:
            raise UserError("no indices: give those of at least one stage")
        return self.latents(idx)[-1]

    def usage(self, idx: Tensor) -> list[float]:
        """Share of the codes that occur at each stage, 0 to 1, in indices (..., M)."""
        return [usage(column[column >= 0], self.size) for column in idx.flatten(0, -2).unbind(1)]

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Put the codes of each stage at the k-means centres of what the stages before leave of vectors (N, C).

        A shared codebook takes the centres of what all its stages see.
        """
        z = self._flat(z)
        if self.shared:
            self.books[0].initialise(z)
            for _ in range(POOLINGS):  # then at the centres of all that its stages see
                self.books[0].initialise(self._seen(z))
            return
        rest = z.detach().float()
        for book in self.books:
            book.initialise(rest)
            rest = rest - F.embedding(book.lookup(rest), book.codes)

    @torch.no_grad()
    def revive(self, z: Tensor, share: float = 0.05) -> list[int]:
        """Move codes that get less than ``share`` of an even portion of the hits to what their stage sees of z (N, C).

        A shared codebook takes vectors of all stages.

        Returns:
            how many codes moved, per codebook.
        """
        if self.shared:
            return [self.books[0].revive(self._seen(self._flat(z)), share)]
        rest, moved = self._flat(z).detach().float(), []
        for book in self.books:
            moved.append(book.revive(rest, share))
            rest = rest - F.embedding(book.lookup(rest), book.codes)
        return moved
