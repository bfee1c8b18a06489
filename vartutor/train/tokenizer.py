"""Train the multi-scale tokenizers: plain (``var``) and hierarchical (``hit``)."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.pairs import pyramid
from vartutor.data.photos import load_pixels
from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.profiles import Profile
from vartutor.tokenizer.autoencoder import Decoder, Encoder, SmallDecoder, SmallEncoder
from vartutor.tokenizer.hierarchical import HierarchicalQuantizer, HierarchicalTokenizer
from vartutor.tokenizer.multiscale import MultiScaleQuantizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.loop import LoopConfig, Trainer

LADDERS = ("hit", "var")


@dataclass(frozen=True)
class Losses:
    """Weights of the terms, and the care of the codebook."""

    l1: float = 1.0
    l2: float = 1.0
    perceptual: float = 0.0
    quantizer: float = 1.0
    revive_every: int = 50  # steps; 0 never
    revive_until: float = 0.7  # share of the steps


def build_tokenizer(profile: Profile, ladder: str = "hit") -> MultiScaleTokenizer:
    """An untrained tokenizer of the profile's sizes; both ladders have the same token maps.

    Raises:
        UserError: unknown ladder.
    """
    if ladder not in LADDERS:
        raise UserError(f"unknown ladder {ladder!r}: choose one of {', '.join(LADDERS)}")
    encoder, decoder = (Encoder, Decoder) if profile.autoencoder == "var" else (SmallEncoder, SmallDecoder)
    parts = encoder(profile.width, profile.channels), decoder(profile.width, profile.channels)
    if ladder == "var":
        patch_nums = [p for group in profile.groups for p in group]
        return MultiScaleTokenizer(MultiScaleQuantizer(patch_nums, profile.codes, profile.channels), *parts)
    quantizer = HierarchicalQuantizer(profile.groups, profile.codes, profile.channels)
    return HierarchicalTokenizer(quantizer, *parts, scales=profile.scales)


class TokenizerLoss:
    """Draws a batch, reconstructs it, and weighs the errors; called by :class:`Trainer` once per step."""

    def __init__(self, model: MultiScaleTokenizer, crops: RandomCrops, losses: Losses, steps: int, bf16: bool = False):
        self.model, self.crops, self.losses, self.steps, self.bf16 = model, crops, losses, steps, bf16
        self.perceptual = PerceptualDistance() if losses.perceptual else None

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch, and its PSNR and code usage per scale."""
        w, quantizer = self.losses, self.model.quantizer
        x = self.crops.batch()
        if w.revive_every and step % w.revive_every == w.revive_every - 1 and step < w.revive_until * self.steps:
            with torch.no_grad():
                quantizer(self.model.encode(x))  # shows the quantizer what it may move codes to
            quantizer.revive()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            images, indices, loss = self.model(x)
        target = pyramid(x)
        if isinstance(images, Tensor):  # the plain tokenizer has the largest image only
            images = {max(target): images}
        loss = w.quantizer * loss
        numbers = {}
        for s, image in images.items():
            image = image.float()
            loss = loss + w.l1 * F.l1_loss(image, target[s]) + w.l2 * F.mse_loss(image, target[s])
            if self.perceptual is not None:
                loss = loss + w.perceptual * self.perceptual(image, target[s]).mean()
            numbers[f"psnr{s}"] = psnr(image.detach(), target[s], color="rgb").mean().item()
        for k, idx in enumerate(indices):
            numbers[f"used/{k}"] = len(idx.unique())
        return loss, numbers


def train_tokenizer(
    profile: Profile,
    out: Path,
    *,
    ladder: str = "hit",
    seed: int = 0,
    steps: int | None = None,
    losses: Losses = Losses(),
    bf16: bool = False,
    resume: bool = False,
) -> Trainer:
    """Train a tokenizer on the 50 training photos; writes ``state.pt`` and ``log.csv`` to ``out``.

    Args:
        steps: instead of the profile's.
        bf16: run encoder and decoder in bfloat16; the quantizer stays in float32.
        resume: go on from the state in ``out``, with the same numbers as if never stopped.

    Raises:
        UserError: unknown ladder; a state that is missing, unreadable or of another model.
    """
    torch.manual_seed(seed)
    config = LoopConfig(steps=steps or profile.tokenizer_steps)
    model = build_tokenizer(profile, ladder)
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=seed)
    step_loss = TokenizerLoss(model, crops, losses, config.steps, bf16)
    trainer = Trainer(model, step_loss, config, out, [crops.generator])
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer


@torch.no_grad()
def evaluate_tokenizer(model: MultiScaleTokenizer, profile: Profile, split: str = "test") -> dict[int, Tensor]:
    """RGB-PSNR in dB of every fixed crop of a split, by scale: {s: (N,)}; the plain tokenizer has the largest only."""
    x, _ = eval_crops(split, profile.image_size, profile.eval_crops)
    found = {}
    for part in x.split(16):
        target = pyramid(part, profile.scales)
        indices = model.tokenize(part)
        hierarchical = isinstance(model, HierarchicalTokenizer)
        images = model.decode_scales(indices) if hierarchical else {max(profile.scales): model.reconstruct(part)}
        for s, image in images.items():
            found.setdefault(s, []).append(psnr(image, target[s], color="rgb"))
    return {s: torch.cat(values) for s, values in found.items()}
