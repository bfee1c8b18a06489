"""VAR's autoencoder: 16 pixels a side become one position.

The blocks are those of latent diffusion's f = 16 model (Rombach et al., 2022). Attribute names are those of the
official checkpoint, so that its weights load as they are.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.tokenizer.autoencoder import ResnetBlock, group_norm

CH_MULT = (1, 1, 2, 2, 4)  # widths of the five levels, in units of ch
BLOCKS = 2  # of a level of the encoder; the decoder's have one more


class AttnBlock(nn.Module):
    """x + attention of every position to every other, with a single head: (B, C, H, W) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
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
        self.norm_out, self.conv_out = group_norm(widths[-1]), nn.Conv2d(widths[-1], z, 3, padding=1)

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
        self.norm_out, self.conv_out = group_norm(widths[0]), nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))  # (B, 4 ch, h, w)
        for level in reversed(self.up):
            h = level.upsample(level(h))
        return self.conv_out(F.silu(self.norm_out(h)))
