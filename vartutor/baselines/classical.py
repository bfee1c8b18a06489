"""A classical denoiser, then bicubic: the line to beat without any training.

The denoisers are scikit-image's (extra ``notebooks``). Their strength follows the noise of each photo.
"""

from dataclasses import dataclass

import numpy as np
import torch
from skimage.restoration import denoise_bilateral, denoise_nl_means, denoise_tv_chambolle
from torch import Tensor

from vartutor.data.images import check_image
from vartutor.data.pairs import upscale_bicubic
from vartutor.errors import UserError


def noise_level(x: Tensor) -> Tensor:
    """Standard deviation of white noise in (B, 3, h, w), in its own unit: (B,), the mean over colours.

    Immerkær (1996): second differences along both axes leave noise, and little else. We take their median, which
    texture misleads less than his mean. scikit-image's ``estimate_sigma`` would need PyWavelets.
    """
    once = x[..., :-2, :] - 2 * x[..., 1:-1, :] + x[..., 2:, :]
    twice = once[..., :-2] - 2 * once[..., 1:-1] + once[..., 2:]
    return twice.abs().flatten(2).median(2).values.mean(1) / (6 * 0.6745)


def _non_local_means(image: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    return denoise_nl_means(image, 5, 6, h=strength, sigma=sigma, channel_axis=-1)


def _total_variation(image: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    return denoise_tv_chambolle(image, strength, channel_axis=-1)


def _bilateral(image: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    return denoise_bilateral(image, sigma_color=strength, sigma_spatial=1.0, mode="edge", channel_axis=-1)


METHODS = {"nlm": _non_local_means, "tv": _total_variation, "bilateral": _bilateral}


@dataclass(frozen=True)
class Denoiser:
    """Denoise, then enlarge.

    Args:
        method: ``nlm`` (non-local means; Buades et al., 2005), ``tv`` (total variation; Chambolle, 2004) or
            ``bilateral`` (Tomasi and Manduchi, 1998).
        factor: the denoiser's strength (h, weight or sigma_color) is this times the photo's noise level.

    Raises:
        UserError: an unknown method, or a factor that is not above 0.
    """

    method: str
    factor: float

    def __post_init__(self):
        if self.method not in METHODS:
            raise UserError(f"unknown denoiser {self.method!r}: choose one of {', '.join(METHODS)}")
        if not self.factor > 0:
            raise UserError(f"a factor of {self.factor} for the denoiser: give a number above 0")

    def denoise(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) in [-1, 1] -> the same."""
        light = (check_image(lr).cpu().double() + 1) / 2
        cleaned = []
        for image, sigma in zip(light, noise_level(light).tolist(), strict=True):
            pixels = image.permute(1, 2, 0).numpy()
            if sigma > 0:
                pixels = METHODS[self.method](pixels, sigma, self.factor * sigma)
            cleaned.append(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))
        return (torch.stack(cleaned) * 2 - 1).clamp(-1, 1).to(lr)

    def __call__(self, lr: Tensor) -> dict[int, Tensor]:
        """(B, 3, h, w) in [-1, 1] -> {s: (B, 3, s h, s w)} in [-1, 1]; at ×1 the denoised photo itself."""
        return upscale_bicubic(self.denoise(lr))


# The best PSNR on the validation pairs, at every scale: assets/studies/denoisers.md, with its command.
CHOSEN = Denoiser("tv", 0.8)


def parse_denoiser(words: str) -> Denoiser:
    """``denoise`` is the chosen one; ``denoise:tv:0.5`` is any.

    Raises:
        UserError: anything else.
    """
    if words == "denoise":
        return CHOSEN
    try:
        _, method, factor = words.split(":")
        return Denoiser(method, float(factor))
    except UserError:
        raise
    except ValueError:
        raise UserError(f"restorer {words!r}: write it like denoise:tv:0.5") from None
