"""Training crops at random, test crops by rule."""

import math
import zlib
from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from vartutor.data.images import from_uint8, resize
from vartutor.data.photos import load_pixels, photos
from vartutor.errors import UserError


class RandomCrops:
    """Random square crops, with scale jitter and flips, as batches without end.

    A crop takes a window of ``size * s`` pixels, with log-uniform ``s`` in ``[1, jitter]``, and shrinks it
    to ``size``: the model sees edges at several sharpnesses, and the compression artefacts of the
    photographs shrink away.

    Args:
        images: (3, H, W) uint8 tensors, for example ``load_pixels("train")``.
        size: side of a crop in pixels.
        batch_size: crops per batch.
        jitter: largest window, in crops; limited by each photo's short side.
        seed: seeds ``self.generator``, whose state is all there is to save for a resumed run.

    Raises:
        UserError: no image is at least ``size`` pixels on its short side.
    """

    def __init__(
        self, images: Sequence[Tensor], size: int = 64, batch_size: int = 16, *, jitter: float = 2.0, seed: int = 0
    ):
        self.images = [image for image in images if min(image.shape[-2:]) >= size]
        if not self.images:
            raise UserError(f"no image of at least {size} x {size} pixels among the {len(images)} given")
        self.size, self.batch_size, self.jitter = size, batch_size, jitter
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        return (self.batch() for _ in count())

    def batch(self) -> Tensor:
        """The next (batch_size, 3, size, size) in [-1, 1]."""
        # One call for all random numbers: photo, window, row, column, flip.
        draws = torch.rand(self.batch_size, 5, generator=self.generator).tolist()
        chosen = ((self.images[int(photo * len(self.images))], draw) for photo, *draw in draws)
        return torch.cat([random_crop(image, self.size, self.jitter, draw) for image, draw in chosen])


def random_crop(image: Tensor, size: int, jitter: float, draws: Sequence[float]) -> Tensor:
    """One crop of :class:`RandomCrops` from a (3, H, W) uint8 image: (1, 3, size, size) in [-1, 1].

    ``draws`` are four numbers in 0..1: window, row, column, flip.
    """
    scale, row, column, flip = draws
    height, width = image.shape[-2:]
    largest = min(jitter, height / size, width / size)
    side = round(size * math.exp(scale * math.log(max(1.0, largest))))
    top, left = int(row * (height - side + 1)), int(column * (width - side + 1))
    crop = from_uint8(image[None, :, top : top + side, left : left + side])
    if side != size:
        crop = resize(crop, (size, size)).clamp_(-1, 1)
    return crop.flip(-1) if flip < 0.5 else crop


def eval_crops(split: str = "test", size: int = 64, per_photo: int = 3) -> tuple[Tensor, list[str]]:
    """The same crops on every machine: ``per_photo`` windows of each photo, at full resolution.

    The windows of a photo depend on its file name alone, so adding photographs changes nothing for the others.

    Returns:
        (N, 3, size, size) in [-1, 1], and for each crop the file it is cut from.
    """
    crops, files = [], []
    for photo, image in zip(photos(split), load_pixels(split), strict=True):
        generator = torch.Generator().manual_seed(zlib.crc32(photo.file.encode()))
        for row, column in torch.rand(per_photo, 2, generator=generator).tolist():
            height, width = image.shape[-2:]
            top, left = int(row * (height - size + 1)), int(column * (width - size + 1))
            crops.append(from_uint8(image[:, top : top + size, left : left + size]))
            files.append(photo.file)
    return torch.stack(crops), files
