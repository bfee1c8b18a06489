"""The loss of whatever makes clean photos of degraded ones directly: the fidelity module and the convolutional net."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.train.loop import NOW, Moment, Numbers


@dataclass(frozen=True)
class FidelityObjective:
    """What is learned, by how large a module, and on what decode."""

    perceptual: float = 0.05  # weight of the perceptual distance beside the mean absolute error
    temperature: float = 1.0  # of the tokens that the decoder sees in training
    expected: bool = False  # mean codes instead of sampled ones
    hidden: int = 64  # the module's channels
    depth: int = 6  # its residual blocks

    def __post_init__(self):
        if self.perceptual < 0 or self.temperature <= 0:
            raise UserError(f"perceptual {self.perceptual:g}, temperature {self.temperature:g}: from 0 on, and above 0")
        if self.hidden < 1 or self.depth < 0:
            raise UserError(f"hidden {self.hidden}, depth {self.depth}: at least 1, and from 0 on")


@dataclass(frozen=True)
class Written:
    """Photos for which the transformer wrote its tokens.

    ``photo`` (B, 3, h, w) degraded, ``f_hats`` {s: (B, C, h_s, w_s)}, ``hr`` {s: (B, 3, H_s, W_s)} clean.
    """

    photo: Tensor
    f_hats: dict[int, Tensor]
    hr: dict[int, Tensor]


class PairLoss:
    """Restores a batch, and measures the error; the mean over scales.

    By the mean absolute error alone it is the fair line for PSNR; with some weight on the perceptual distance it is the
    fair one for that.

    Args:
        restore: what was prepared of a batch -> images {s: (B, 3, H_s, W_s)}, not clamped.
        perceptual: weight of the perceptual distance beside the mean absolute error.

    Raises:
        UserError: a negative weight.
    """

    def __init__(
        self,
        restore: Callable[[Any], dict[int, Tensor]],
        perceptual: float,
        bf16: bool = False,
        device: torch.device | str = "cpu",
    ):
        if perceptual < 0:
            raise UserError(f"perceptual {perceptual:g}: give a weight from 0 on")
        self.restore, self.weight, self.bf16 = restore, perceptual, bf16
        self.device = torch.device(device)
        self.perceptual = PerceptualDistance().to(device) if perceptual else None

    def __call__(self, seen: Any, moment: Moment = NOW) -> tuple[Tensor, Numbers]:
        """Loss of a batch, a scalar; where it is logged, its RGB-PSNR in dB per scale. ``seen.hr`` are clean photos."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            images = {s: image.float() for s, image in self.restore(seen).items()}
        loss = sum(self._error(image, seen.hr[s]) for s, image in images.items()) / len(images)
        if not moment.logged:
            return loss, {}
        return loss, {f"psnr{s}": psnr(x.detach(), seen.hr[s], color="rgb").mean() for s, x in images.items()}

    def _error(self, image: Tensor, clean: Tensor) -> Tensor:
        error = F.l1_loss(image, clean)
        return error if self.perceptual is None else error + self.weight * self.perceptual(image, clean).mean()
