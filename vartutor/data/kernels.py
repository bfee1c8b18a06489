"""Blur kernels: isotropic, anisotropic, generalized and plateau Gaussians, the sinc low-pass, and motion.

All but the last are those of Real-ESRGAN (Wang et al., 2021, section 3). All kernels are (k, k), odd, and sum to 1.
"""

import math

import torch
from torch import Tensor


def _grid(size: int) -> tuple[Tensor, Tensor]:
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    return torch.meshgrid(axis, axis, indexing="ij")  # y, x


def _mahalanobis(size: int, sigma_x: float, sigma_y: float, theta: float) -> Tensor:
    """d² = xᵀ Σ⁻¹ x at every kernel pixel, for a Gaussian turned by ``theta`` radians."""
    y, x = _grid(size)
    along = x * math.cos(theta) + y * math.sin(theta)
    across = y * math.cos(theta) - x * math.sin(theta)
    return (along / sigma_x) ** 2 + (across / sigma_y) ** 2


def gaussian_kernel(
    size: int, sigma_x: float, sigma_y: float | None = None, theta: float = 0.0, beta: float = 1.0
) -> Tensor:
    """Generalized Gaussian, exp(-½ (d²)^β): β = 1 is the Gaussian, small β has a sharp peak and long tails.

    Args:
        size: side in pixels, odd.
        sigma_x, sigma_y: standard deviations in pixels along and across ``theta``; equal if ``sigma_y`` is left out.
        theta: rotation in radians.
        beta: shape.
    """
    d2 = _mahalanobis(size, sigma_x, sigma_x if sigma_y is None else sigma_y, theta)
    kernel = torch.exp(-0.5 * d2**beta)
    return kernel / kernel.sum()


def plateau_kernel(
    size: int, sigma_x: float, sigma_y: float | None = None, theta: float = 0.0, beta: float = 1.0
) -> Tensor:
    """Plateau-shaped kernel, 1 / (1 + (d²)^β): large β is flat inside and falls off like a lens out of focus."""
    d2 = _mahalanobis(size, sigma_x, sigma_x if sigma_y is None else sigma_y, theta)
    kernel = 1 / (1 + d2**beta)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """Circular low-pass, ω J₁(ω r) / (2π r): what sharpening and compression leave as ringing.

    Args:
        size: side in pixels, odd.
        cutoff: cut-off frequency ω in radians per pixel, at most π.
    """
    y, x = _grid(size)
    r = (x**2 + y**2).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)  # the limit at r = 0
    return kernel / kernel.sum()


def motion_kernel(size: int, length: float, theta: float = 0.0) -> Tensor:
    """A camera that moves evenly while the shutter is open: a straight line, one pixel wide.

    Args:
        size: side in pixels, odd.
        length: of the line in pixels, at most ``size``.
        theta: direction in radians, from columns towards rows.
    """
    y, x = _grid(size)
    along = x * math.cos(theta) + y * math.sin(theta)
    across = y * math.cos(theta) - x * math.sin(theta)
    # Coverage of a pixel, as a ramp of one pixel at the line's sides and ends.
    kernel = (1 - across.abs()).clamp(min=0) * ((length + 1) / 2 - along.abs()).clamp(0, 1)
    return kernel / kernel.sum()
