"""The next-scale transformer: all tokens of a scale at once, each scale from all before it.

Tian et al., 2024, section 3.3. Every block is modulated by one vector per image (AdaLN): a class for official VAR,
a learned constant in this course, whose photos come in as prefix tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vartutor.errors import UserError
from vartutor.transformer.attention import Cache, SelfAttention, View, block_causal, grid_angles
from vartutor.transformer.condition import Condition, spread
from vartutor.transformer.prior import LatentPrior


@dataclass(frozen=True)
class TransformerConfig:
    """All that the shapes of a transformer's weights depend on."""

    patch_nums: tuple[int, ...]
    codes: int  # V
    channels: int  # C, of a code
    width: int  # D
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    classes: int = 1  # rows of the class table; the last one is the null class where there are several
    shared_aln: bool = False
    l2_norm: bool = True
    rope: bool = False  # rotary positions instead of a learned table
    checkpointing: bool = False  # recompute activations in the backward pass

    @property
    def tokens(self) -> int:
        """L."""
        return sum(p * p for p in self.patch_nums)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LN(x) (1 + scale) + shift of (B, n, D) by (B, 1, D) each, without a learned affine part."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Block(nn.Module):
    """x + γ₁ attention(modulated x), then x + γ₂ feed-forward(modulated x).

    Tokens (B, L, D) and six modulation vectors (B, 1, 6, D) -> (B, L, D). With ``shared_aln`` the vectors come from
    outside, and the block adds an offset of its own.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        width, hidden = config.width, round(config.width * config.mlp_ratio)
        self.attn = SelfAttention(width, config.heads, config.l2_norm)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        if config.shared_aln:
            self.offset = nn.Parameter(torch.zeros(1, 1, 6, width))
        else:
            self.modulation = nn.Linear(width, 6 * width)

    def modulations(self, vector: Tensor, shared: Tensor | None) -> Tensor:
        """(B, D) -> (B, 1, 6, D): γ₁, γ₂, scale₁, scale₂, shift₁, shift₂; constant over scales, so computed once."""
        if shared is not None:
            return shared + self.offset
        return self.modulation(F.silu(vector)).unflatten(1, (1, 6, -1))

    def forward(
        self,
        x: Tensor,
        m: Tensor,
        views: Sequence[View] | None,
        angles: Tensor | None,
        cache: Cache | None = None,
    ) -> Tensor:
        gamma1, gamma2, scale1, scale2, shift1, shift2 = m.unbind(2)  # (B, 1, D) each
        x = x + gamma1 * self.attn(modulate(x, scale1, shift1), views, angles, cache)
        h = F.gelu(self.fc1(modulate(x, scale2, shift2)), approximate="tanh")
        return x + gamma2 * self.fc2(h)


class NextScaleTransformer(nn.Module):
    """VAR's transformer.

    The sequence: prefix tokens of the condition, if any; start tokens, which predict the first map; then for every
    later map its input, f_hat so far at that map's size. Attention is full within a scale and causal across scales;
    prefix and start count as the first scale.

    Args:
        prior: pulls every token towards the one that the degraded photo itself would have; see :mod:`.prior`.

    Raises:
        UserError: the width is not a multiple of the heads, or with rope of four times the heads.
    """

    def __init__(self, config: TransformerConfig, prior: LatentPrior | None = None):
        super().__init__()
        if config.width % (config.heads * (4 if config.rope else 1)):
            raise UserError(f"width {config.width} does not divide among {config.heads} heads")
        self.config = config
        width, first = config.width, config.patch_nums[0] ** 2
        self.word_embed = nn.Linear(config.channels, width)
        self.class_emb = nn.Embedding(config.classes, width)
        self.pos_start = nn.Parameter(torch.zeros(1, first, width))
        self.level = nn.Embedding(len(config.patch_nums), width)
        if not config.rope:
            self.pos = nn.Parameter(torch.zeros(1, config.tokens, width))
        if config.shared_aln:
            self.shared_modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, config.codes)
        self._initialise()
        self.prior = prior

    @torch.no_grad()
    def _initialise(self) -> None:
        """As VAR: normal with variance 1 / (3 D); residual branches smaller the deeper; a timid head."""
        std = math.sqrt(1 / (3 * self.config.width))
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.trunc_normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for table in (self.pos_start, *([] if self.config.rope else [self.pos])):
            nn.init.trunc_normal_(table, std=std)
        self.head.weight.mul_(0.02)
        self.head_modulation.weight.mul_(0.5)
        for block in self.blocks:
            block.attn.proj.weight.div_(math.sqrt(2 * self.config.depth))
            block.fc2.weight.div_(math.sqrt(2 * self.config.depth))
            if self.config.shared_aln:
                block.offset.normal_(std=self.config.width**-0.5)
                block.offset[:, :, 2:].mul_(0.5)
                block.offset[:, :, :2].mul_(1e-3)
            else:  # γ starts near zero: every block near the identity
                block.modulation.weight[2 * self.config.width :].mul_(0.5)
                block.modulation.weight[: 2 * self.config.width].mul_(1e-3)

    # --- pieces that training and generation share ---------------------------------------------------

    def modulations(self, vector: Tensor) -> list[Tensor]:
        """(B, D) -> for every block (B, 1, 6, D)."""
        shared = None
        if self.config.shared_aln:
            shared = self.shared_modulation(F.silu(vector)).unflatten(1, (1, 6, -1))
        return [block.modulations(vector, shared) for block in self.blocks]

    def embed_start(self, condition: Condition, rest: Tensor | None = None) -> Tensor:
        """Prefix and start tokens: (B, P + p_1², D); ``rest`` as for :meth:`embed_inputs`."""
        start = condition.vector[:, None] + self.pos_start + self.level.weight[0] + self._position(0)
        start = start + condition.added_to(self.config.patch_nums[0])
        if self.prior is not None:
            start = start + self.prior.embed(rest)
        if condition.prefix is None:
            return start
        return torch.cat([condition.prefix + self._prefix_position(condition.sizes), start], 1)

    def embed_inputs(
        self, inputs: Tensor, k: int, rest: Tensor | None = None, condition: Condition | None = None
    ) -> Tensor:
        """Input of map k, (B, p_k², C) -> (B, p_k², D); with a prior also the degraded photo's rest, same shape.

        Of the condition, what is added to the map's inputs.
        """
        x = self.word_embed(inputs) + self.level.weight[k] + self._position(k)
        if condition is not None:
            x = x + condition.added_to(self.config.patch_nums[k])
        return x if self.prior is None else x + self.prior.embed(rest)

    def _position(self, k: int) -> Tensor | float:
        if self.config.rope:
            return 0.0
        begin = sum(p * p for p in self.config.patch_nums[:k])
        return self.pos[:, begin : begin + self.config.patch_nums[k] ** 2]

    def _prefix_position(self, sizes: Sequence[tuple[int, int]]) -> Tensor | float:
        """Without rotary positions: the learned ones of the finest map, at the prefix's sizes (our choice)."""
        if self.config.rope:
            return 0.0
        side = self.config.patch_nums[-1]
        table = self.pos[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        return torch.cat([spread(table, size) for size in sizes], 1)

    def angles(self, condition: Condition) -> Tensor | None:
        """(P + L, dim / 2) for the whole sequence, or None for learned positions."""
        if not self.config.rope:
            return None
        sizes = [*condition.sizes, *((p, p) for p in self.config.patch_nums)]
        dim = self.config.width // self.config.heads
        return grid_angles(sizes, dim).to(condition.vector.device)

    def run_head(self, x: Tensor, vector: Tensor, k: int = 0, rest: Tensor | None = None) -> Tensor:
        """(B, n, D) -> logits (B, n, V) in float32; with a prior, also its share at scale k for the rest (B, n, C)."""
        scale, shift = self.head_modulation(F.silu(vector)).unflatten(1, (1, 2, -1)).unbind(2)
        h = modulate(x.float(), scale, shift)
        logits = self.head(h).float()
        return logits if self.prior is None else logits + self.prior.logits(rest, k, h)

    # --- teacher forcing -----------------------------------------------------------------------------

    def forward(self, condition: Condition, next_inputs: Tensor, rests: Tensor | None = None) -> Tensor:
        """Predict all maps at once from the true maps before them.

        Args:
            next_inputs: (B, L - p_1², C), what the tokenizer's ``next_inputs`` gives.
            rests: (B, L, C), for a model with a prior: the degraded photo's rest at every token.

        Returns:
            logits (B, L, V).
        """
        return self.branches(condition, [(next_inputs, rests)])[0]

    def branches(self, condition: Condition, sequences: Sequence[tuple[Tensor, Tensor | None]]) -> list[Tensor]:
        """Several sequences for the same condition in one pass; prefix and start are computed once.

        Exact, since neither depends on what follows. The rests of the first map are alike in all sequences, for
        no token has been said yet.

        Args:
            sequences: next inputs and rests as for :meth:`forward`.

        Returns:
            logits (B, L, V) of each.
        """
        squares = [p * p for p in self.config.patch_nums]
        owns = [[None] * len(squares) if r is None else r.split(squares, dim=1) for _, r in sequences]  # (B, p_k², C)
        start = self.embed_start(condition, owns[0][0])  # (B, P + p_1², D)
        later = [
            self.embed_inputs(inputs, k, own[k], condition)  # (B, p_k², D)
            for (maps, _), own in zip(sequences, owns, strict=True)
            for k, inputs in enumerate(maps.split(squares[1:], dim=1), 1)
        ]
        x = torch.cat([start, *later], 1)  # (B, P + p_1² + n (L - p_1²), D) for n sequences
        views = block_causal([start.shape[1], *squares[1:]], len(sequences))
        angles = self.angles(condition)  # (P + L, dim / 2)
        if angles is not None:
            shared = start.shape[1]
            angles = torch.cat([angles[:shared], angles[shared:].repeat(len(sequences), 1)])  # as many as tokens in x
        for block, m in zip(self.blocks, self.modulations(condition.vector), strict=True):
            if self.config.checkpointing and self.training:
                x = checkpoint(block, x, m, views, angles, use_reentrant=False)
            else:
                x = block(x, m, views, angles)
        lengths = [start.shape[1] - squares[0], squares[0], *[sum(squares[1:])] * len(sequences)]
        _, first, *tails = x.split(lengths, 1)  # the prefix, the first map (B, p_1², D), the others (B, L - p_1², D)
        found = []
        for tail, own in zip(tails, owns, strict=True):
            maps = [first, *tail.split(squares[1:], 1)]  # (B, p_k², D) each
            found.append(torch.cat([self.run_head(h, condition.vector, k, own[k]) for k, h in enumerate(maps)], 1))
        return found
