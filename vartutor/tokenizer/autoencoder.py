"""Two autoencoders: VAR's, where 16 pixels a side become one position, and the course's small one, with 4 or more.

The blocks are those of latent diffusion's f = 16 model (Rombach et al., 2022). Attribute names of VAR's are those
of the official checkpoint, so that its weights load as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CH_MULT = (1, 1, 2, 2, 4)  # widths of the five levels, in units of ch
BLOCKS = 2  # of a level of the encoder; the decoder's have one more


def norm(channels: int) -> nn.GroupNorm:
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

    def __init__(self, c_in: int, c_out: int, norm=norm):
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttnBlock(nn.Module):
    """x + attention of every position to every other, with a single head: (B, C, H, W) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)  # (B, 1, HW, C)
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1)  # (B, HW, C)
        h = h.transpose(1, 2).unflatten(2, x.shape[-2:])  # (B, C, H, W)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    """(B, C, H, W) -> (B, C, H / 2, W / 2); the extra row and column of zeros stand right and below."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """(B, C, H, W) -> (B, C, 2 H, 2 W): repeat each pixel, then smooth."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one size, (B, C, H, W), each followed by attention at the smallest size."""

    def __init__(self, c_in: int, c_out: int, blocks: int, attention: bool):
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(c_in if i == 0 else c_out, c_out) for i in range(blocks))
        self.attn = nn.ModuleList(AttnBlock(c_out) for _ in range(blocks if attention else 0))

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return x


class Middle(nn.Module):
    """Block, attention, block at the smallest size: (B, C, H, W) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.block_1, self.attn_1 = ResnetBlock(channels, channels), AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, z, H / 16, W / 16); sides are multiples of 16."""

    factor = 16  # pixels along a latent

    def __init__(self, ch: int = 160, z: int = 32):
        super().__init__()
        widths = [ch, *(ch * m for m in CH_MULT)]
        last = len(CH_MULT) - 1
        self.conv_in = nn.Conv2d(3, ch, 3, padding=1)
        self.down = nn.ModuleList()
        for i in range(len(CH_MULT)):
            level = Level(widths[i], widths[i + 1], BLOCKS, attention=i == last)
            level.downsample = Downsample(widths[i + 1]) if i < last else nn.Identity()
            self.down.append(level)
        self.mid = Middle(widths[-1])
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], z, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)  # (B, ch, H, W)
        for level in self.down:  # to (B, 4 ch, H / 16, W / 16)
            h = level.downsample(level(h))
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """(B, z, h, w) -> (B, 3, 16 h, 16 w), not clamped. ``up[0]`` is the level of full resolution."""

    def __init__(self, ch: int = 160, z: int = 32):
        super().__init__()
        widths = [*(ch * m for m in CH_MULT), ch * CH_MULT[-1]]
        last = len(CH_MULT) - 1
        self.conv_in = nn.Conv2d(z, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()
        for i in range(len(CH_MULT)):
            level = Level(widths[i + 1], widths[i], BLOCKS + 1, attention=i == last)
            level.upsample = Upsample(widths[i]) if i > 0 else nn.Identity()
            self.up.append(level)
        self.norm_out, self.conv_out = norm(widths[0]), nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))  # (B, 4 ch, h, w)
        for level in reversed(self.up):
            h = level.upsample(level(h))
        return self.conv_out(F.silu(self.norm_out(h)))


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
