"""The loss of whatever makes clean photos of degraded ones directly: the fidelity module and the convolutional net."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.train.adversarial import Adversary
from vartutor.train.loop import NOW, Moment, Numbers

BASES = ("decoder", "photo")


@dataclass(frozen=True)
class FidelityObjective:
    """What is learned, by how large a module, and on what decode."""

    perceptual: float = 0.05  # weight of the perceptual distance beside the mean absolute error
    adversarial: float = 0.0  # of the critic's opinion
    adversarial_start: float = 0.3  # share of the run before the critic begins
    base: str = "decoder"  # what the module adds to: the decoder's picture, or the first one (photo)
    blind: bool = False  # the decoder is given no tokens: a control
    forced: float = 0.0  # share of the photos with true tokens in training, instead of the transformer's own
    trust: float = 1.0  # weight of the error of those with the transformer's own; a critic judges these alone
    temperature: float = 1.0  # of the tokens that the decoder sees in training
    expected: bool = False  # mean codes instead of sampled ones
    hidden: int = 64  # the module's channels
    depth: int = 6  # its residual blocks

    def __post_init__(self):
        if not 0 <= self.perceptual < math.inf or not 0 < self.temperature < math.inf:
            raise UserError(f"perceptual {self.perceptual:g}, temperature {self.temperature:g}: from 0 on, and above 0")
        if self.base not in BASES:
            raise UserError(f"base {self.base!r}: choose one of {', '.join(BASES)}")
        if not 0 <= self.forced <= 1 or self.trust < 0:
            raise UserError(f"forced {self.forced:g}, trust {self.trust:g}: from 0 to 1, and from 0 on")
        if self.hidden < 1 or self.depth < 0:
            raise UserError(f"hidden {self.hidden}, depth {self.depth}: at least 1, and from 0 on")


@dataclass(frozen=True)
class Written:
    """Photos with tokens, true ones or the transformer's.

    ``first`` {s: (B, 3, H_s, W_s)} pictures that the tokens begin at, ``f_hats`` {s: (B, C, h_s, w_s)},
    ``hr`` {s: (B, 3, H_s, W_s)} clean, ``trust`` (B,) weights of the photos' errors, ``judged`` (B,) of the critic's.
    """

    first: dict[int, Tensor]
    f_hats: dict[int, Tensor]
    hr: dict[int, Tensor]
    trust: Tensor
    judged: Tensor


def logged_psnr(images: dict[int, Tensor], clean: dict[int, Tensor]) -> Numbers:
    """RGB-PSNR in dB of pictures (B, 3, s h, s w) as they would be seen; NaN in them is for the loss to tell."""
    seen = {s: x.detach().nan_to_num().clamp(-1, 1) for s, x in images.items()}
    return {f"psnr{s}": psnr(x, clean[s], color="rgb").mean() for s, x in seen.items()}


class PairLoss:
    """Restores a batch, and measures the error; the mean over scales.

    By the mean absolute error alone it is the fair line for PSNR; with some weight on the perceptual distance it is the
    fair one for that; and with a critic's opinion, for texture.

    Args:
        restore: what was prepared of a batch -> images {s: (B, 3, H_s, W_s)}, not clamped.
        model: what learns.
        perceptual: weight of the perceptual distance beside the mean absolute error.
        adversarial: weight of the critic's opinion.
        start: share of the run before the critic begins.

    Raises:
        UserError: a negative weight.
    """

    def __init__(
        self,
        restore: Callable[[Any], dict[int, Tensor]],
        model: nn.Module,
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        start: float = 0.3,
        bf16: bool = False,
    ):
        if min(perceptual, adversarial) < 0:
            raise UserError(f"perceptual {perceptual:g}, adversarial {adversarial:g}: give weights from 0 on")
        self.restore, self.model, self.bf16, self.device = restore, model, bf16, next(model.parameters()).device
        self.weight = perceptual
        self.perceptual = PerceptualDistance().to(self.device) if perceptual else None
        self.adversary = Adversary(self.device, adversarial, start) if adversarial else None

    def __call__(self, seen: Any, moment: Moment = NOW) -> tuple[Tensor, Numbers]:
        """Loss of a batch, a scalar; where it is logged, its RGB-PSNR in dB per scale. ``seen.hr`` are clean photos."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            images = {s: image.float() for s, image in self.restore(seen).items()}
        numbers = {}
        trust = getattr(seen, "trust", None)
        loss = sum(self._error(image, seen.hr[s], s, trust).mean() for s, image in images.items()) / len(images)
        if self.adversary is not None and self.model.training:
            term, numbers = self.adversary.oppose(images, seen.hr, moment, getattr(seen, "judged", None))
            loss = loss + term
        if moment.logged:
            numbers |= logged_psnr(images, seen.hr)
        return loss, numbers

    @property
    def parts(self) -> dict[str, Any]:
        """What learns beside the model."""
        return {"adversary": self.adversary} if self.adversary else {}

    def finish(self, moment: Moment) -> None:
        """Move the critic."""
        if self.adversary is not None:
            self.adversary.finish()

    def _error(self, image: Tensor, clean: Tensor, s: int, trust: Tensor | None) -> Tensor:
        """Of every photo, (B,); what is not trusted in detail shall be right where the degraded photo can tell."""
        difference = image - clean
        error = difference.abs().mean((1, 2, 3))
        if self.perceptual is not None:
            error = error + self.weight * self.perceptual(image, clean)
        if trust is None:
            return error
        return trust * error + (1 - trust) * F.avg_pool2d(difference, s).abs().mean((1, 2, 3))
