"""What is measured of a restored photo, given the clean one.

Beside the metrics of :mod:`vartutor.metrics`, two that say *how* a photo falls short. Both look at luma, in windows of
2 s + 1 pixels a side at scale s, and call one flat where the clean photo's standard deviation is below ``FLAT``.

- Sharpness: energy of the gradient at the centres of windows that are not flat, as a share of the clean photo's. The
  gradient is Sobel's, the focus measure Tenengrad (Krotkov, 1988; Pertuz et al., 2013, section 2). Below 1 is blurred;
  above 1 is over-sharpened, or noise on top of the texture.
- Noise: the median standard deviation of the flat windows, less the clean photo's own. Taking noise from homogeneous
  windows is as in Amer and Dubois (2005); the median forgets those into which a blurred edge leaks. 0 is as clean as
  the clean photo; below 0 is smoother than that.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.images import from_uint8, to_uint8
from vartutor.metrics import luma, psnr, ssim
from vartutor.perceptual import perceptual_distance

FLAT = 4.0  # gray levels of 255
LEAST = 20  # flat windows that a photo needs for its noise to be measured


class Measure(NamedTuple):
    """How a measure is printed: its title, its digits, and which way is better."""

    title: str
    digits: int
    better: str


MEASURES = {
    "psnr_y": Measure("PSNR of luma, dB", 2, "higher is better"),
    "psnr_rgb": Measure("PSNR of RGB, dB", 2, "higher is better"),
    "ssim": Measure("SSIM of luma", 3, "higher is better"),
    "perceptual": Measure("Perceptual distance", 3, "lower is better"),
    "sharpness": Measure("Sharpness, share of the clean photo's", 2, "1 is best"),
    "noise": Measure("Noise left where the clean photo is flat, gray levels", 2, "0 is best"),
}


def _windows(y: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) -> deviation of every window, and squared gradient at its centre: (B, 1, H - 2 s, W - 2 s) each."""
    y, side = y.double(), 2 * scale + 1  # variances are differences of large numbers
    variance = F.avg_pool2d(y.square(), side, 1) - F.avg_pool2d(y, side, 1).square()
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=y.dtype) / 8
    gradient = F.conv2d(y, torch.stack([sobel, sobel.T])[:, None]).square().sum(1, keepdim=True)
    return variance.clamp(min=0).sqrt(), F.pad(gradient, (1 - scale,) * 4)


def sharpness_and_noise(x: Tensor, clean: Tensor, scale: int) -> tuple[float, float]:
    """Both of a photo, or of several crops of it together: (B, 3, H, W) in [-1, 1], twice; see above.

    Returns:
        nan for a photo with nothing but flat windows, or with fewer than ``LEAST`` flat ones.
    """
    (deviation, gradient), (own_deviation, own_gradient) = (_windows(luma(image), scale) for image in (x, clean))
    flat = own_deviation < FLAT
    sharpness = (gradient[~flat].sum() / own_gradient[~flat].sum()).item()  # 0 / 0 is nan
    if flat.sum() < LEAST:
        return sharpness, float("nan")
    return sharpness, (deviation[flat].median() - own_deviation[flat].median()).item()


@torch.no_grad()
def measure(x: Tensor, clean: Tensor, scale: int) -> dict[str, float]:
    """All ``MEASURES`` of a photo, or of several crops of it: (B, 3, H, W) in [-1, 1], twice.

    Both are rounded to 8 bits. PSNR and SSIM leave out a border as wide as the scale factor, and are means over crops.
    """
    x, clean = (from_uint8(to_uint8(image)) for image in (x, clean))
    sharpness, noise = sharpness_and_noise(x, clean, scale)
    return {
        "psnr_y": psnr(x, clean, border=scale).mean().item(),
        "psnr_rgb": psnr(x, clean, color="rgb", border=scale).mean().item(),
        "ssim": ssim(x, clean, border=scale).mean().item(),
        "perceptual": perceptual_distance(x, clean).mean().item(),
        "sharpness": sharpness,
        "noise": noise,
    }
