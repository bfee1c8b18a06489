"""Baseline JPEG as tensor operations: what compressing and decompressing does to a batch, without a file.

The steps are those of ITU-T T.81 and of libjpeg, whose defaults Pillow uses: colours at half the resolution (4:2:0),
8 x 8 cosine transforms, rounding to multiples of the tables of annex K, and smooth ("fancy") enlarging of the colours.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.draws import constant

# fmt: off
LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61,      12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,      14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,  72, 92, 95, 98, 112, 100, 103, 99,
)
CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99,      18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,      47, 66, 99, 99, 99, 99, 99, 99,
) + (99,) * 32
# fmt: on
FROM_RGB = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))
# The transform of 8 numbers: ½ C(u) cos((2x + 1) u π / 16)
COSINES = tuple(
    tuple(math.cos((2 * x + 1) * u * math.pi / 16) / 2 * (1 if u else 0.5**0.5) for x in range(8)) for u in range(8)
)


def jpeg_each(x: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress (B, 3, H, W) in [-1, 1] at a ``quality`` (B,) in 1..100 for each image."""
    height, width = x.shape[-2:]
    if height % 16 or width % 16:
        x = F.pad(x, (0, -width % 16, 0, -height % 16), mode="replicate")
    pixels = ((x + 1) * 127.5).round_().clamp_(0, 255).flatten(2)
    # Brightness and colours less 128, so that the latter are 0 for gray.
    planes = (constant(FROM_RGB, x.device) @ pixels).round_().view_as(x)
    luma = _code(planes[:, :1] - 128, LUMA, quality) + 128
    half = constant((0.25, 0.5), x.device).repeat(x.shape[-1] // 4)  # libjpeg rounds halves down and up in turn
    chroma = _code((F.avg_pool2d(planes[:, 1:], 2) + half).floor_(), CHROMA, quality)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear").round_()
    rgb = constant(TO_RGB, x.device) @ torch.cat([luma, chroma], 1).flatten(2)
    return rgb.round_().clamp_(0, 255).div_(127.5).sub_(1).view_as(x)[..., :height, :width]


def _code(planes: Tensor, table: tuple[int, ...], quality: Tensor) -> Tensor:
    """Planes (B, C, H, W) in -128..127 after rounding their cosine coefficients to multiples of ``table``."""
    # libjpeg's scale in percent: at quality 50 the table itself, at 100 all ones.
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)[:, None, None]
    steps = ((constant(table, planes.device) * percent + 50) / 100).floor().clamp(1, 255)  # (B, 1, 64)
    line = constant(COSINES, planes.device)
    cosines = torch.kron(line, line)  # of a block's 64 pixels at once; orthogonal
    b, c, h, w = planes.shape
    blocks = planes.reshape(b, c, h // 8, 8, w // 8, 8).transpose(3, 4).reshape(b, -1, 64)
    blocks = ((blocks @ cosines.T) / steps).round_().mul_(steps) @ cosines
    planes = blocks.view(b, c, h // 8, w // 8, 8, 8).transpose(3, 4).reshape(b, c, h, w)
    return planes.round_().clamp_(-128, 127)
