"""What is measured of a restored photo, given the clean one.

Beside the metrics of :mod:`vartutor.metrics`, two that say *how* a photo falls short. Both look at luma on the grid of
3 × 3 windows, and call a window of the clean photo flat where its standard deviation is below ``FLAT``.

- Sharpness: energy of the gradient outside flat windows, as a share of the clean photo's. The gradient is Sobel's,
  the focus measure Tenengrad (Krotkov, 1988; Pertuz et al., 2013, section 2). Below 1 is blurred; above 1 is
  over-sharpened, or noise on top of the texture.
- Noise: standard deviation inside flat windows, less the clean photo's own. Taking noise from homogeneous windows is
  as in Amer and Dubois (2005). 0 is as clean as the clean photo; below 0 is smoother than that.
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


def _windows(y: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) -> variance, and squared Sobel gradient, of every 3 × 3 window: (B, 1, H - 2, W - 2) each."""
    y = y.double()  # variances are differences of large numbers
    variance = F.avg_pool2d(y.square(), 3, 1) - F.avg_pool2d(y, 3, 1).square()
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=y.dtype) / 8
    gradient = F.conv2d(y, torch.stack([sobel, sobel.T])[:, None])
    return variance.clamp(min=0), gradient.square().sum(1, keepdim=True)


def sharpness_and_noise(x: Tensor, clean: Tensor) -> tuple[float, float]:
    """Both of a photo, or of several crops of it together: (B, 3, H, W) in [-1, 1], twice; see above.

    Returns:
        nan for a photo with nothing but flat windows, or with fewer than ``LEAST`` flat ones.
    """
    (variance, gradient), (own_variance, own_gradient) = _windows(luma(x)), _windows(luma(clean))
    flat = own_variance < FLAT**2
    sharpness = gradient[~flat].sum() / own_gradient[~flat].sum()  # 0 / 0 is nan
    if flat.sum() < LEAST:
        return sharpness.item(), float("nan")
    return sharpness.item(), (variance[flat].mean().sqrt() - own_variance[flat].mean().sqrt()).item()


@torch.no_grad()
def measure(x: Tensor, clean: Tensor, scale: int) -> dict[str, float]:
    """All ``MEASURES`` of a photo, or of several crops of it: (B, 3, H, W) in [-1, 1], twice.

    Both are rounded to 8 bits. PSNR and SSIM leave out a border as wide as the scale factor, and are means over crops.
    """
    x, clean = (from_uint8(to_uint8(image)) for image in (x, clean))
    sharpness, noise = sharpness_and_noise(x, clean)
    return {
        "psnr_y": psnr(x, clean, border=scale).mean().item(),
        "psnr_rgb": psnr(x, clean, color="rgb", border=scale).mean().item(),
        "ssim": ssim(x, clean, border=scale).mean().item(),
        "perceptual": perceptual_distance(x, clean).mean().item(),
        "sharpness": sharpness,
        "noise": noise,
    }
