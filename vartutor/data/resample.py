"""Resampling a batch whose images have sizes of their own, as products with one matrix each for rows and columns.

Images of different sizes lie in the upper left of canvases (B, 3, H, W) of one size, and beyond an image its last row
and column go on. So one product serves all, and what becomes of an image does not depend on the others.
"""

import torch
from torch import Tensor

Sizes = tuple[Tensor, Tensor]  # rows and columns of every image, (B,) int64 each
MODES = ("area", "bilinear", "bicubic")


def resize_weights(source: Tensor, target: Tensor, columns: int, i: Tensor, mode: Tensor | None = None) -> Tensor:
    """Matrices that make lines of ``target`` pixels of ``source``, as :func:`vartutor.data.images.resize` does.

    Args:
        source, target: lengths in pixels, (B,) int64.
        columns: of the matrices, no less than the longest source; those beyond a source are 0.
        i: which pixel of the target every row makes, (B or 1, rows) int64.
        mode: indices in MODES, (B,); bicubic if left out.

    Returns:
        (B, rows, columns), whose rows sum to 1.
    """
    n, m, i = source[:, None, None], target[:, None, None], i[:, :, None]
    j = torch.arange(columns, device=source.device)
    # How far the middles of pixels j and i are apart, in steps of which a pixel j is 2 m wide and a pixel i 2 n.
    gap = (torch.where(j < n, (2.0 * j + 1) * m, torch.inf) - (2.0 * i + 1) * n).abs()
    # In units of the coarser grid, so that the filter is as wide as an output pixel: antialiasing, as in Pillow.
    t = (gap / (2 * torch.maximum(n, m))).clamp(max=2)
    # Keys' cubic (1981) with a = -½: the branch for 1 < t < 2, and what the one for t < 1 has more.
    weights = ((-0.5 * t + 2.5) * t - 4) * t + 2 + (1 - t).clamp(min=0).square() * (2 * t - 1)
    if mode is not None:
        filters = {"area": (gap < n + m).float(), "bilinear": (1 - t).clamp(min=0), "bicubic": weights}
        weights = sum(filters[name] * (mode == k)[:, None, None].float() for k, name in enumerate(MODES))
    return weights / weights.sum(-1, keepdim=True)


def resize_each(x: Tensor, size: Sizes, new: Sizes, canvas: tuple[int, int], mode: Tensor | None = None) -> Tensor:
    """Resample images of ``size`` on (B, 3, H, W) to ``new`` on (B, 3, *canvas); what changes size is clamped."""
    down, across = (
        resize_weights(n, m, columns, torch.minimum(torch.arange(rows, device=x.device), m[:, None] - 1), mode)
        for n, m, rows, columns in zip(size, new, canvas, x.shape[-2:], strict=True)
    )
    y = down[:, None] @ (x.flatten(1, 2) @ across.mT).unflatten(1, x.shape[1:3])
    changed = (size[0] != new[0]) | (size[1] != new[1])
    bound = torch.where(changed, 1.0, torch.inf).view(-1, 1, 1, 1)
    return y.clamp_(-bound, bound)
