"""The course's autoencoder: 4 pixels a side, or more, become one position.

Its blocks are those of latent diffusion's f = 16 model (Rombach et al., 2022), with a norm of each position alone.
VAR's, with the names of the official checkpoint, is in :mod:`.var_autoencoder`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm in 32 groups, so every width is a multiple of 32."""
    return nn.GroupNorm(32, channels, eps=1e-6)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position of (B, C, H, W): unlike group norm, it does not depend on the size.

    So a photo can be cut into tiles and decoded as a whole, and nothing changes.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1)  # (B, H, W, C)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-6).movedim(-1, 1)


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))): (B, C, H, W) -> the same, or with other channels."""

    def __init__(self, c_in: int, c_out: int, norm=group_norm):
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class SmallEncoder(nn.Module):
    """The course's: (B, 3, H, W) in [-1, 1] -> (B, z, H / factor, W / factor); sides are multiples of the factor.

    Space-to-depth first, so that every convolution works at the small size, where two cores can afford it. There is
    no norm or nonlinearity on the path from the pixels to the features: with factor 4, 16 numbers hold a patch of 48
    rather well already by a linear map, and the blocks only have to add to it.
    """

    def __init__(self, width: int = 128, z: int = 16, blocks: int = 2, factor: int = 4):
        super().__init__()
        self.factor = factor  # pixels along a latent
        self.conv_in = nn.Conv2d(3 * factor * factor, width, 3, padding=1)
        self.block = nn.Sequential(*(ResnetBlock(width, width, ChannelNorm) for _ in range(blocks)))
        self.conv_out = nn.Conv2d(width, z, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(F.pixel_unshuffle(x, self.factor))  # (B, width, H / factor, W / factor)
        return self.conv_out(self.block(h))


class SmallDecoder(nn.Module):
    """The course's: (B, z, h, w) -> (B, 3, factor h, factor w), not clamped."""

    def __init__(self, width: int = 128, z: int = 16, blocks: int = 2, factor: int = 4):
        super().__init__()
        self.factor = factor
        self.conv_in = nn.Conv2d(z, width, 3, padding=1)
        self.block = nn.Sequential(*(ResnetBlock(width, width, ChannelNorm) for _ in range(blocks)))
        self.conv_out = nn.Conv2d(width, 3 * factor * factor, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv_out(self.block(self.conv_in(z))), self.factor)
