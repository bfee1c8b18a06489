"""The loss of whatever makes clean photos of degraded ones directly: the fidelity module and the convolutional net."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.train.job import Numbers
from vartutor.train.loop import Moment


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

    def __call__(self, seen: Any, moment: Moment) -> tuple[Tensor, Numbers]:
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
