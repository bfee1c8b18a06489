"""The course's model: a next-scale transformer that is told a degraded photo."""

import torch
from torch import Generator, Tensor, nn

from vartutor.data.pairs import upscale_bicubic
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.transformer.condition import Condition, PhotoPrefix
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.prior import LatentPrior


class PhotoTransformer(nn.Module):
    """Transformer, prefix and prior, over a frozen tokenizer that is not part of it.

    Args:
        config: of the transformer.
        codes: (V, C) codebook of the tokenizer.
        prefix: whether the photo stands before the first map as tokens, as in the paper.
        prior: whether its own latents pull the tokens (ours).
        patch: side of the pixels that become one token of the prefix.
    """

    def __init__(
        self, config: TransformerConfig, codes: Tensor, *, prefix: bool = True, prior: bool = True, patch: int = 2
    ):
        super().__init__()
        self.prefix = PhotoPrefix(config.width, patch=patch) if prefix else None
        own = LatentPrior(len(config.patch_nums), codes, config.width) if prior else None
        self.body = NextScaleTransformer(config, own)

    @property
    def config(self) -> TransformerConfig:
        """Of the transformer."""
        return self.body.config

    def condition(self, photo: Tensor, features: tuple[Tensor, ...]) -> Condition:
        """What the transformer is told of a photo (B, 3, h, w) and its latents, from :func:`photo_features`."""
        vector = self.body.class_emb.weight[:1].expand(len(photo), -1)
        prefix, sizes = None, ()
        if self.prefix is not None:
            prefix, size = self.prefix(photo)
            sizes = (size,)
        return Condition(vector, prefix, sizes, features if self.body.prior is not None else ())


@torch.no_grad()
def photo_features(tokenizer: HierarchicalTokenizer, photo: Tensor) -> tuple[Tensor, ...]:
    """Latents of the degraded photo (B, 3, h, w), enlarged bicubically: (B, C, h_s, w_s) for every scale group."""
    largest = max(tokenizer.scales)
    return tuple(tokenizer.encode(upscale_bicubic(photo, (largest,))[largest]))


@torch.no_grad()
def force(
    tokenizer: HierarchicalTokenizer,
    clean: tuple[Tensor, ...],
    degraded: tuple[Tensor, ...],
    slip: float = 0.0,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Teacher forcing with slips: what the model shall say, and what it sees while it says it.

    In generation, the model sees its own mistakes. So some tokens of the input are not the true ones, but those that
    the degraded photo suggests; and what comes after aims at correcting them, since every target is the nearest code
    to what the clean features lack *then*. (Han et al., 2024, do this with random flips: Infinity, section 3.4.)

    Args:
        clean, degraded: features of the clean photo and of the degraded one, for every scale group.
        slip: the share of slips of an image is drawn from 0 to this.

    Returns:
        targets (B, L) int64; goals (B, L, C), the vectors whose nearest codes they are; next inputs
        (B, L - p_1², C); the degraded photo's rests (B, L, C).
    """
    quantizer, f_hat, following = tokenizer.quantizer, None, None
    share = slip * torch.rand(len(clean[0]), 1, generator=generator)
    targets, goals, inputs, rests = [], [], [], []
    for k in range(len(quantizer.patch_nums)):
        goal, rest = (quantizer.rest(f, f_hat, k) for f in (clean, degraded))
        idx, guess = (quantizer.lookup(z.transpose(1, 2)[..., None]) for z in (goal, rest))
        slipped = torch.rand(idx.shape, generator=generator) < share
        if k:
            inputs.append(following.flatten(2).transpose(1, 2))
        f_hat, following = quantizer.step(f_hat, torch.where(slipped.to(idx.device), guess, idx), k)
        targets.append(idx)
        goals.append(goal)
        rests.append(rest)
    return torch.cat(targets, 1), torch.cat(goals, 1), torch.cat(inputs, 1), torch.cat(rests, 1)
