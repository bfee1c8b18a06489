"""What a tokenizer learns by: of one map (``vq``), plain multi-scale (``var``) or hierarchical (``hit``)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.pairs import pyramid
from vartutor.perceptual import PerceptualDistance
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.adversarial import Adversary
from vartutor.train.loop import Moment, Numbers
from vartutor.train.pairs import logged_psnr

if TYPE_CHECKING:
    from vartutor.train.source import Batch

FROZEN = {"all": (), "codes+decoder": ("encoder", "quant_conv")}  # by what learns: parts that do not
FROZEN["codes"] = (*FROZEN["codes+decoder"], "post_quant_conv", "decoder")
BYPASS = 112  # stream of the draws


@dataclass(frozen=True)
class Losses:
    """Weights of the terms, and the care of the codebook."""

    l1: float = 1.0  # weight of the mean absolute error
    l2: float = 1.0  # of the mean squared error
    perceptual: float = 0.0  # of the perceptual distance
    quantizer: float = 0.25  # of the quantizer's own loss
    adversarial: float = 0.0  # of the critic's opinion
    adversarial_start: float = 0.3  # share of the run before the critic begins
    bypass: float = 0.1  # share of the images that skip the quantizer
    codes: str = "ema"  # how the codebook learns: by moving averages (ema) or by the quantizer's loss (loss)
    votes: str = "scale"  # for ema: every scale counts alike (scale), or every vector does (token)
    revive_every: int = 50  # steps between revivals of unused codes; 0: never
    revive_until: float = 0.7  # share of the run


class TokenizerLoss:
    """Reconstructs a batch, and weighs the errors; codes and critic move once per step, in :meth:`finish`."""

    def __init__(self, model: MultiScaleTokenizer, losses: Losses, bf16: bool = False):
        self.model, self.losses, self.bf16 = model, losses, bf16
        model.quantizer.deferred = True
        device = model.decoder.conv_out.weight.device
        self.perceptual = PerceptualDistance().to(device) if losses.perceptual else None
        weight, start = losses.adversarial, losses.adversarial_start
        self.adversary = Adversary(device, weight, start) if weight else None

    def __call__(self, batch: "Batch", moment: Moment) -> tuple[Tensor, Numbers]:
        """Loss of a batch, a scalar; where it is logged, also PSNR in dB and the codes in use, per scale."""
        w, numbers = self.losses, {}
        learning, x = self.model.training, batch.x
        skip = batch.uniform(1, BYPASS)[:, 0] < w.bypass if learning and w.bypass else None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            images, indices, loss = self.model(x, skip=skip)
        target = pyramid(x)
        if isinstance(images, Tensor):  # the plain tokenizer has the largest image only
            images = {max(target): images}
        images = {s: image.float() for s, image in images.items()}
        loss = sum(self._error(image, target[s]) for s, image in images.items()) + w.quantizer * loss
        if self.adversary is not None and learning:
            term, numbers = self.adversary.oppose(images, target, moment)
            loss = loss + term
        if moment.logged:
            numbers |= logged_psnr(images, target)
            numbers |= {f"used/{k}": self._used(idx) for k, idx in enumerate(indices)}
        return loss, numbers

    def _error(self, image: Tensor, target: Tensor) -> Tensor:
        loss = self.losses.l1 * F.l1_loss(image, target) + self.losses.l2 * F.mse_loss(image, target)
        if self.perceptual is not None:
            loss = loss + self.losses.perceptual * self.perceptual(image, target).mean()
        return loss

    def _used(self, idx: Tensor) -> Tensor:
        hit = torch.zeros(len(self.model.quantizer.codes), device=idx.device)
        return hit.index_fill_(0, idx.flatten(), 1.0).sum()

    def finish(self, moment: Moment) -> None:
        """Move codes and critic, by all that the step's rounds have seen."""
        w, quantizer = self.losses, self.model.quantizer
        quantizer.settle()
        due = w.revive_every and moment.step % w.revive_every == w.revive_every - 1
        if due and moment.progress < w.revive_until:
            quantizer.revive()
        if self.adversary is not None:
            self.adversary.finish()


def make_tokenizer(config: TokenizerConfig, losses: Losses) -> MultiScaleTokenizer:
    """An untrained tokenizer, with its codebook cared for as ``losses`` say."""
    model = build_tokenizer(config)
    if losses.codes == "ema":
        model.quantizer.use_moving_averages(votes=losses.votes)
    return model


@torch.no_grad()
def reconstruct_scales(model: MultiScaleTokenizer, x: Tensor) -> dict[int, Tensor]:
    """(B, 3, H, W) in [-1, 1] -> {s: (B, 3, H_s, W_s)} from tokens; the plain tokenizer has the largest alone."""
    if isinstance(model, HierarchicalTokenizer):
        return model.decode_scales(model.tokenize(x))
    return {max(pyramid(x)): model.reconstruct(x)}
