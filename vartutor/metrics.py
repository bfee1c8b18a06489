"""Full-reference metrics in the conventions of super-resolution, and confidence intervals for their means.

All take (B, 3, H, W) in [-1, 1] and return (B,) float tensors. By default they look at luma alone, as the
tables of super-resolution papers do. ``border`` pixels on each side are left out; papers use the scale factor.
Round to 8 bits first (``from_uint8(to_uint8(x))``) to compare with numbers taken from image files.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.images import check_image
from vartutor.errors import UserError


def luma(x: Tensor) -> Tensor:
    """Y of ITU-R BT.601, (B, 3, H, W) in [-1, 1] -> (B, 1, H, W) in 16..235, as in MATLAB's rgb2ycbcr."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=x.dtype, device=x.device)
    return 16 + ((x + 1) / 2 * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def _planes(x: Tensor, y: Tensor, color: str, border: int) -> tuple[Tensor, Tensor]:
    """Both images as 0..255 planes to compare, without their borders."""
    if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
        raise UserError(f"images of shapes {tuple(x.shape)} and {tuple(y.shape)}: both must be the same (B, 3, H, W)")
    if color not in ("y", "rgb"):
        raise UserError(f"unknown color {color!r}: choose 'y' or 'rgb'")
    if not 0 <= 2 * border < min(x.shape[-2:]):
        raise UserError(f"a border of {border} leaves nothing of {x.shape[-1]} x {x.shape[-2]} pixels")
    x, y = (check_image(z, reach=10) for z in (x, y))  # what a model makes may lie further out than a photo
    window = (..., slice(border, x.shape[-2] - border), slice(border, x.shape[-1] - border))
    return tuple(luma(z)[window] if color == "y" else (z[window] + 1) * 127.5 for z in (x, y))


def psnr(x: Tensor, y: Tensor, *, color: str = "y", border: int = 0) -> Tensor:
    """Peak signal-to-noise ratio, 10 log₁₀(255² / MSE), in dB, (B,); identical images give infinity.

    Raises:
        UserError: the shapes differ, the border leaves nothing, or see ``check_image`` (so for all metrics here).
    """
    x, y = _planes(x, y, color, border)
    return 10 * torch.log10(255**2 / (x - y).square().mean(dim=(1, 2, 3)))


def _gaussian_filter(x: Tensor, size: int = 11, sigma: float = 1.5) -> Tensor:
    """Separable Gaussian on every channel, without padding."""
    axis = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
    window = torch.exp(-0.5 * (axis / sigma) ** 2)
    window = (window / window.sum()).expand(x.shape[1], 1, 1, size)
    return F.conv2d(F.conv2d(x, window, groups=x.shape[1]), window.transpose(2, 3), groups=x.shape[1])


def ssim(x: Tensor, y: Tensor, *, color: str = "y", border: int = 0) -> Tensor:
    """Structural similarity (Wang et al., 2004), (B,) of at most 1: 11 x 11 Gaussian window, σ = 1.5, no padding.

    Raises:
        UserError: smaller than 11 pixels after the border.
    """
    x, y = _planes(x, y, color, border)
    if min(x.shape[-2:]) < 11:
        raise UserError(f"SSIM needs 11 x 11 pixels, got {x.shape[-1]} x {x.shape[-2]}")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mu_x, mu_y = _gaussian_filter(x), _gaussian_filter(y)
    var_x, var_y = _gaussian_filter(x * x) - mu_x**2, _gaussian_filter(y * y) - mu_y**2
    cov = _gaussian_filter(x * y) - mu_x * mu_y
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return ((2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1) * structure).mean(dim=(1, 2, 3))


def gmsd(x: Tensor, y: Tensor, *, color: str = "y") -> Tensor:
    """Gradient magnitude similarity deviation (Xue et al., 2014), (B,): 0 for equal images, larger is worse."""
    x, y = (F.avg_pool2d(plane, 2) for plane in _planes(x, y, color, 0))
    prewitt = torch.tensor([[1.0, 0, -1]] * 3, dtype=x.dtype, device=x.device) / 3
    kernels = torch.stack([prewitt, prewitt.T])[:, None]

    def gradient(plane: Tensor) -> Tensor:
        channels = plane.flatten(0, 1)[:, None]
        # The 1e-12 keeps the derivative finite where an image is flat.
        return F.conv2d(channels, kernels, padding=1).square().sum(1).add(1e-12).sqrt().view_as(plane)

    gx, gy = gradient(x), gradient(y)
    c = 170.0
    similarity = (2 * gx * gy + c) / (gx**2 + gy**2 + c)
    return similarity.flatten(2).std(dim=2, correction=0).mean(dim=1)


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap(
    values: Tensor | Sequence[float],
    groups: Sequence | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean of values (N,).

    Crops of one photo resemble each other, so their number overstates what is known. With ``groups`` (the
    photo, or photo and seed, of each value) whole groups are resampled and the mean is over group means.

    Raises:
        UserError: no values, infinite ones or NaN, or another number of groups.
    """
    values = torch.as_tensor(values, dtype=torch.float64).detach().cpu().numpy()
    fit = values.ndim == 1 and len(values) and np.isfinite(values).all()
    if not fit or (groups is not None and len(groups) != len(values)):
        raise UserError("bootstrap needs a flat list of finite values, and one group for each if groups are given")
    if groups is not None:
        numbers: dict = {}  # of the groups, in the order of their first value
        groups = groups.tolist() if hasattr(groups, "tolist") else groups
        labels = [numbers.setdefault(group, len(numbers)) for group in groups]
        values = np.bincount(labels, values) / np.bincount(labels)
    chosen = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = values[chosen].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))
