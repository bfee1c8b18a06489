"""Blur kernels: isotropic, anisotropic, generalized and plateau Gaussians, the sinc low-pass, and motion.

All but the last are those of Real-ESRGAN (Wang et al., 2021, section 3). All kernels are (k, k), odd, and sum to 1.
For a batch the settings are tensors (B, 1, 1) instead of numbers, and the kernels (B, k, k).
"""

import math

import torch
from torch import Tensor

Number = float | Tensor


def _grid(size: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    axis = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
    return torch.meshgrid(axis, axis, indexing="ij")  # y, x


def _turned(size: int, theta: Number) -> tuple[Tensor, Tensor]:
    """Every kernel pixel's place along and across a direction."""
    y, x = _grid(size, getattr(theta, "device", None))
    trigonometry = torch if isinstance(theta, Tensor) else math
    cos, sin = trigonometry.cos(theta), trigonometry.sin(theta)
    return x * cos + y * sin, y * cos - x * sin


def _mahalanobis(size: int, sigma_x: Number, sigma_y: Number, theta: Number) -> Tensor:
    """d² = xᵀ Σ⁻¹ x at every kernel pixel, for a Gaussian turned by ``theta`` radians."""
    along, across = _turned(size, theta)
    return (along / sigma_x) ** 2 + (across / sigma_y) ** 2


def _normalized(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum((-2, -1), keepdim=True)


def gaussian_kernel(
    size: int, sigma_x: Number, sigma_y: Number | None = None, theta: Number = 0.0, beta: Number = 1.0
) -> Tensor:
    """Generalized Gaussian (k, k), exp(-½ (d²)^β): β = 1 is the Gaussian, small β has a sharp peak and long tails.

    Args:
        size: side in pixels, odd.
        sigma_x, sigma_y: standard deviations in pixels along and across ``theta``; equal if ``sigma_y`` is left out.
        theta: rotation in radians.
        beta: shape.
    """
    d2 = _mahalanobis(size, sigma_x, sigma_x if sigma_y is None else sigma_y, theta)
    kernel = torch.exp(-0.5 * d2**beta)
    return _normalized(kernel)


def plateau_kernel(
    size: int, sigma_x: Number, sigma_y: Number | None = None, theta: Number = 0.0, beta: Number = 1.0
) -> Tensor:
    """Plateau (k, k), 1 / (1 + (d²)^β): large β is flat inside and falls off like a lens out of focus."""
    d2 = _mahalanobis(size, sigma_x, sigma_x if sigma_y is None else sigma_y, theta)
    kernel = 1 / (1 + d2**beta)
    return _normalized(kernel)


def sinc_kernel(size: int, cutoff: Number) -> Tensor:
    """Circular low-pass (k, k), ω J₁(ω r) / (2π r): what sharpening and compression leave as ringing.

    Args:
        size: side in pixels, odd.
        cutoff: cut-off frequency ω in radians per pixel, at most π.
    """
    y, x = _grid(size, getattr(cutoff, "device", None))
    r = (x**2 + y**2).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    middle = slice(size // 2, size // 2 + 1)
    kernel[..., middle, middle] = cutoff**2 / (4 * math.pi)  # the limit at r = 0
    return _normalized(kernel)


def motion_kernel(size: int, length: Number, theta: Number = 0.0) -> Tensor:
    """A camera that moves evenly while the shutter is open: a straight line in (k, k), one pixel wide.

    Args:
        size: side in pixels, odd.
        length: of the line in pixels, at most ``size``.
        theta: direction in radians, from columns towards rows.
    """
    along, across = _turned(size, theta)
    # Coverage of a pixel, as a ramp of one pixel at the line's sides and ends.
    kernel = (1 - across.abs()).clamp(min=0) * ((length + 1) / 2 - along.abs()).clamp(0, 1)
    return _normalized(kernel)
