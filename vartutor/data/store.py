"""Photographs that live on the device as bytes, and random crops of them in batches."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from vartutor.data.crops import COLOR_ORDERS
from vartutor.data.draws import constant, uniform
from vartutor.data.resample import resize_weights
from vartutor.errors import UserError


class PhotoStore:
    """All photos of a run, as one flat uint8 tensor.

    Args:
        images: (3, H, W) uint8 tensors, for example ``load_pixels("train")``.
        device: where they live, and where crops are made.
    """

    def __init__(self, images: Sequence[Tensor], device: torch.device | str = "cpu"):
        self.sizes = [tuple(image.shape[-2:]) for image in images]
        self.short = max(map(min, self.sizes), default=0)
        # Rows of a window may read on beyond the last photo: see `crops`.
        end = torch.zeros(self.short, dtype=torch.uint8)
        self.pixels = torch.cat([*(image.flatten() for image in images), end]).to(device)
        self.tables: dict[int, Tensor] = {}

    def _table(self, size: int) -> Tensor:
        """(3, N) int64: start, height and width of the photos that have a window of ``size``."""
        if size not in self.tables:
            starts = itertools.accumulate((3 * height * width for height, width in self.sizes), initial=0)
            rows = [(start, *hw) for start, hw in zip(starts, self.sizes, strict=False) if min(hw) >= size]
            if not rows:
                raise UserError(f"no image of at least {size} x {size} pixels among the {len(self.sizes)} given")
            self.tables[size] = torch.tensor(rows, device=self.pixels.device).T
        return self.tables[size]

    @torch.no_grad()
    def crops(self, seeds: Tensor, size: int, *, jitter: float = 2.0, augment: bool = False) -> Tensor:
        """One crop for each seed, drawn as by :class:`vartutor.data.crops.RandomCrops`.

        Args:
            seeds: (B,) int64, such as those of :func:`vartutor.data.draws.photo_seeds`.
            size: side of a crop in pixels.
            jitter: largest window, in crops; limited by each photo's short side.
            augment: all symmetries of the square and, half the time, other orders of the colours.

        Returns:
            (B, 3, size, size) in [-1, 1], on the store's device.

        Raises:
            UserError: no photo is at least ``size`` pixels on its short side.
        """
        table, device = self._table(size), self.pixels.device
        draws = uniform(seeds.to(device, non_blocking=True), 8)
        photo, scale, row, column, flip, upside_down, diagonal, color = draws.unbind(1)
        start, height, width = table[:, (photo * table.shape[1]).long()]

        # Windows of 1 to `jitter` crops, the size log-uniform.
        largest = (torch.minimum(height, width) / size).clamp(1, max(1.0, jitter))
        reach = min(round(size * max(1.0, jitter)), self.short)
        side = (size * (scale * largest.log()).exp()).round().long().clamp(max=reach)
        top, left = ((place * (s - side + 1)).long() for place, s in ((row, height), (column, width)))
        flip, upside_down = flip[:, None] < 0.5, (upside_down[:, None] < 0.5) & augment
        order = torch.where(color < 0.5, (2 * color * len(COLOR_ORDERS)).long(), 0) if augment else color.long()
        channels = constant(tuple(COLOR_ORDERS), device)[order]

        # The byte at which every row of every colour begins: (B, reach, 3). Below a window its last row is repeated;
        # to its right the photo goes on, or the next row: the weights there are 0.
        rows = torch.minimum(torch.arange(reach, device=device), side[:, None] - 1)
        rows = top[:, None] + torch.where(flip ^ upside_down, side[:, None] - 1 - rows, rows)
        begin = (start + left)[:, None] + rows * width[:, None]
        begin = begin[:, :, None] + (channels * (height * width)[:, None])[:, None]
        x = self._runs(begin.flatten(), reach).float().view(-1, 3 * reach, reach)

        # A flip turns the order of the pixels made; as one matrix serves both directions, `rows` took it back.
        i = torch.arange(size, device=device)
        i = torch.where(flip, size - 1 - i, i)
        weights = resize_weights(side, torch.full_like(side, size), reach, i)  # (B, size, reach)
        x = weights @ (x @ weights.mT).view(-1, reach, 3 * size)
        x = x.view(-1, size, 3, size).transpose(1, 2)
        if augment:
            x = torch.where(diagonal[:, None, None, None] < 0.5, x.mT, x)
        return (x / 127.5 - 1).clamp(-1, 1)

    def _runs(self, begin: Tensor, length: int) -> Tensor:
        """(N,) places -> (N, length) bytes from there on."""
        view = self.pixels.unfold(0, length, 1)
        # On the CPU index_select copies whole rows, six times faster; on MPS it would copy the view as a whole.
        return view.index_select(0, begin) if begin.device.type == "cpu" else view[begin]
