"""Train the multi-scale tokenizers: plain (``var``) and hierarchical (``hit``)."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.pairs import pyramid
from vartutor.data.photos import load_pixels
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.profiles import Profile
from vartutor.tokenizer.build import Groups, TokenizerConfig, build_tokenizer
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.adversarial import Adversary
from vartutor.train.loop import LoopConfig, Trainer


@dataclass(frozen=True)
class Losses:
    """Weights of the terms, and the care of the codebook."""

    l1: float = 1.0
    l2: float = 1.0
    perceptual: float = 0.0
    quantizer: float = 0.25
    adversarial: float = 0.0
    adversarial_start: float = 0.3  # share of the steps
    bypass: float = 0.1  # share of the images that skip the quantizer
    codes: str = "ema"  # how the codebook learns: by moving averages (ema) or by the quantizer's loss (loss)
    votes: str = "scale"  # for ema: every scale counts alike (scale), or every vector does (token)
    revive_every: int = 50  # steps; 0 never
    revive_until: float = 0.7  # share of the steps


class TokenizerLoss:
    """Draws a batch, reconstructs it, and weighs the errors; called by :class:`Trainer` once per step."""

    def __init__(self, model: MultiScaleTokenizer, crops: RandomCrops, losses: Losses, steps: int, bf16: bool = False):
        self.model, self.crops, self.losses, self.steps, self.bf16 = model, crops, losses, steps, bf16
        self.perceptual = PerceptualDistance() if losses.perceptual else None
        self.adversary = None
        if losses.adversarial:
            self.adversary = Adversary(model.decoder.conv_out.weight, round(losses.adversarial_start * steps))

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
        images = {s: image.float() for s, image in images.items()}
        reconstruction = sum(self._error(image, target[s]) for s, image in images.items())
        numbers = {
            f"psnr{s}": psnr(image.detach(), target[s], color="rgb").mean().item() for s, image in images.items()
        }
        loss = reconstruction + w.quantizer * loss
        if self.adversary is not None:
            fake = list(images.values())
            numbers["critic"] = self.adversary.learn(step, [target[s] for s in images], fake)
            loss = loss + w.adversarial * self.adversary.term(step, reconstruction, fake)
        for k, idx in enumerate(indices):
            numbers[f"used/{k}"] = len(idx.unique())
        return loss, numbers

    def _error(self, image: Tensor, target: Tensor) -> Tensor:
        loss = self.losses.l1 * F.l1_loss(image, target) + self.losses.l2 * F.mse_loss(image, target)
        if self.perceptual is not None:
            loss = loss + self.losses.perceptual * self.perceptual(image, target).mean()
        return loss


def make_tokenizer(config: TokenizerConfig, losses: Losses) -> MultiScaleTokenizer:
    """An untrained tokenizer, with its codebook cared for as ``losses`` say."""
    model = build_tokenizer(config)
    model.quantizer.bypass = losses.bypass
    if losses.codes == "ema":
        model.quantizer.use_moving_averages(votes=losses.votes)
    return model


def train_tokenizer(
    profile: Profile,
    out: Path,
    *,
    ladder: str = "hit",
    groups: Groups | None = None,
    overlap: bool = True,
    bridge: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    losses: Losses = Losses(),
    bf16: bool = False,
    resume: bool = False,
    origin: dict | None = None,
) -> Trainer:
    """Train a tokenizer on the 50 training photos; writes ``state.pt`` and ``log.csv`` to ``out``.

    Args:
        ladder: ``vq``, ``var`` or ``hit``.
        groups: token maps instead of the profile's.
        overlap: for ``hit``: False quantizes every image alone.
        bridge: for ``hit``: hidden channels between the groups, instead of the profile's; 0 for bicubic alone.
        steps: instead of the profile's.
        bf16: run encoder and decoder in bfloat16; the quantizer stays in float32.
        resume: go on from the state in ``out``, with the same numbers as if never stopped.
        origin: kept with the state, such as the command and the commit.

    Raises:
        UserError: unknown ladder; a state that is missing, unreadable or of another model.
    """
    torch.manual_seed(seed)
    schedule = LoopConfig(steps=steps or profile.tokenizer_steps, lr=profile.tokenizer_lr)
    config = TokenizerConfig.of(profile, ladder, groups, overlap, bridge)
    model = make_tokenizer(config, losses)
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=seed)
    step_loss = TokenizerLoss(model, crops, losses, schedule.steps, bf16)
    info = {"config": config.to_json(), "seed": seed, "losses": asdict(losses), **(origin or {})}
    parts = {"adversary": step_loss.adversary} if step_loss.adversary else {}
    trainer = Trainer(model, step_loss, schedule, out, [crops.generator], info, parts)
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
