"""Photographs as bytes, on the device or beside it, and random crops of them in batches."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from vartutor.data.draws import constant, uniform
from vartutor.data.resample import resize_weights
from vartutor.errors import UserError

COLOR_ORDERS = tuple(itertools.permutations(range(3)))
ROOM = 2**30  # bytes that photos may take for good where the device has no memory of its own


class PhotoStore:
    """All photos of a run.

    They live on the device if they fit into a quarter of its memory. If not, they stay where they are, such as in a
    file of which only what is looked at is read, and every batch brings the photos that it draws. The crops are the
    same.

    Args:
        images: (3, H, W) uint8 tensors on the CPU, for example ``load_pixels("train")``.
        device: where crops are made.
    """

    def __init__(self, images: Sequence[Tensor], device: torch.device | str = "cpu"):
        self.images, self.device = images, torch.device(device)
        self.short = max((min(image.shape[-2:]) for image in images), default=0)
        own = self.device.type == "cuda"
        room = torch.cuda.get_device_properties(self.device).total_memory // 4 if own else ROOM
        fits = sum(image.numel() for image in images) <= room
        self.home = self.device if fits else torch.device("cpu")
        self.laid = self._lay_out(images) if fits else None
        self.large_enough: dict[int, Tensor] = {}

    def _lay_out(self, images: Sequence[Tensor], pin: bool = False) -> tuple[Tensor, Tensor]:
        """On the device: the bytes of images one after the other; and (3, N) int64: start, height and width of each."""
        lengths = [*(image.numel() for image in images), self.short]  # windows may read on beyond the last photo
        pixels = torch.empty(sum(lengths), dtype=torch.uint8, device="cpu" if pin else self.device, pin_memory=pin)
        for part, image in zip(pixels.split(lengths), images, strict=False):
            part.copy_(image.flatten())
        starts = itertools.accumulate(lengths, initial=0)
        rows = [(start, *image.shape[-2:]) for start, image in zip(starts, images, strict=False)]
        return pixels.to(self.device, non_blocking=pin), send(torch.tensor(rows).view(-1, 3).T, self.device)

    def _draw(self, seeds: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Bytes of photos on the device; and which the (B,) seeds draw among those with a window of ``size``, (3, B):
        start, height and width."""
        if size not in self.large_enough:
            numbers = [k for k, image in enumerate(self.images) if min(image.shape[-2:]) >= size]
            if not numbers:
                raise UserError(f"no image of at least {size} x {size} pixels among the {len(self.images)} given")
            self.large_enough[size] = torch.tensor(numbers, device=self.home)
        numbers = self.large_enough[size]
        drawn = numbers[(uniform(seeds.to(self.home), 1)[:, 0] * len(numbers)).long()]
        if self.laid is None:
            return self._lay_out([self.images[k] for k in drawn.tolist()], pin=self.device.type == "cuda")
        pixels, places = self.laid
        return pixels, places[:, drawn]

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
        device = self.device
        pixels, (start, height, width) = self._draw(seeds, size)
        _, scale, row, column, flip, upside_down, diagonal, color = uniform(send(seeds, device), 8).unbind(1)

        # Windows of 1 to `jitter` crops, the size log-uniform.
        largest = (torch.minimum(height, width) / size).clamp(1, max(1.0, jitter))
        reach = min(round(size * max(1.0, jitter)), self.short)
        side = (size * (scale * largest.log()).exp()).round().long().clamp(max=reach)
        top, left = ((place * (s - side + 1)).long() for place, s in ((row, height), (column, width)))
        flip, upside_down = flip[:, None] < 0.5, (upside_down[:, None] < 0.5) & augment
        order = torch.where(color < 0.5, (2 * color * len(COLOR_ORDERS)).long(), 0) if augment else color.long()
        channels = constant(COLOR_ORDERS, device)[order]

        # The byte at which every row of every colour begins: (B, reach, 3). Below a window its last row is repeated;
        # to its right the photo goes on, or the next row: the weights there are 0.
        rows = torch.minimum(torch.arange(reach, device=device), side[:, None] - 1)
        rows = top[:, None] + torch.where(flip ^ upside_down, side[:, None] - 1 - rows, rows)
        begin = (start + left)[:, None] + rows * width[:, None]
        begin = begin[:, :, None] + (channels * (height * width)[:, None])[:, None]
        x = _runs(pixels, begin.flatten(), reach).float().view(-1, 3 * reach, reach)

        # A flip turns the order of the pixels made; as one matrix serves both directions, `rows` took it back.
        i = torch.arange(size, device=device)
        i = torch.where(flip, size - 1 - i, i)
        weights = resize_weights(side, torch.full_like(side, size), reach, i)  # (B, size, reach)
        x = weights @ (x @ weights.mT).view(-1, reach, 3 * size)
        x = x.view(-1, size, 3, size).transpose(1, 2)
        if augment:
            x = torch.where(diagonal[:, None, None, None] < 0.5, x.mT, x)
        return (x / 127.5 - 1).clamp(-1, 1)


def _runs(pixels: Tensor, begin: Tensor, length: int) -> Tensor:
    """(N,) places -> (N, length) bytes from there on."""
    view = pixels.unfold(0, length, 1)
    # On the CPU index_select copies whole rows, six times faster; on MPS it would copy the view as a whole.
    return view.index_select(0, begin) if begin.device.type == "cpu" else view[begin]


def send(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of any shape to a device, without waiting for what a GPU is at."""
    pin = device.type == "cuda" and x.device.type == "cpu"
    return (x.pin_memory() if pin else x).to(device, non_blocking=pin)
