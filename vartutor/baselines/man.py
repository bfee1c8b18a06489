"""MAN's block and tail (Wang et al., 2024: Multi-scale Attention Network, arXiv 2209.14145), for the trunk of a net.

Attention without a softmax: a map made by depthwise convolutions over a wide surrounding multiplies the features. A
large kernel is taken apart into a small one, a dilated one, and a mixture of channels (LKA). The light model has 24
blocks of 60 channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.tokenizer.autoencoder import ChannelNorm

# (kernel, dilated kernel, dilation) of the three groups of channels: surroundings of 11, 23 and 39 pixels.
KERNELS = ((3, 5, 2), (5, 7, 3), (7, 9, 4))


def depthwise(width: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A filter for every channel alone, (B, width, h, w) -> the same."""
    return nn.Conv2d(width, width, kernel, padding=kernel // 2 * dilation, dilation=dilation, groups=width)


def large_kernel(width: int, kernel: int, dilated: int, dilation: int) -> nn.Sequential:
    """LKA, equation 3: depthwise, depthwise with holes, pointwise."""
    return nn.Sequential(
        depthwise(width, kernel), depthwise(width, dilated, dilation), nn.Conv2d(width, width, kernel_size=1)
    )


class MultiScaleAttention(nn.Module):
    """MLKA, section 3.2: x + λ conv(y ⊗ gated large kernels of the other half), (B, C, h, w) -> the same.

    Each third of the channels has a kernel of its own size, and a gate that looks at its neighbourhood alone: without
    it, kernels with holes leave a pattern of blocks.
    """

    def __init__(self, width: int):
        super().__init__()
        third = width // 3
        self.norm, self.open = ChannelNorm(width), nn.Conv2d(width, 2 * width, 1)
        self.large = nn.ModuleList(large_kernel(third, *sizes) for sizes in KERNELS)
        self.gates = nn.ModuleList(depthwise(third, sizes[0]) for sizes in KERNELS)
        self.close, self.scale = nn.Conv2d(width, width, 1), nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        attention, y = self.open(self.norm(x)).chunk(2, dim=1)
        thirds = zip(self.gates, self.large, attention.chunk(3, dim=1), strict=True)
        attention = torch.cat([gate(part) * large(part) for gate, large, part in thirds], 1)  # equation 5
        return x + self.scale * self.close(y * attention)


class GatedSpatialUnit(nn.Module):
    """GSAU, equation 6: x + λ conv(y ⊗ depthwise 7 × 7 of the other half), (B, C, h, w) -> the same."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.open = ChannelNorm(width), nn.Conv2d(width, 2 * width, 1)
        self.gate = depthwise(width, 7)
        self.close, self.scale = nn.Conv2d(width, width, 1), nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y, attention = self.open(self.norm(x)).chunk(2, dim=1)
        return x + self.scale * self.close(y * self.gate(attention))


class AttentionBlock(nn.Sequential):
    """MAB: both, one after the other; (B, C, h, w) -> the same, untrained what came in."""

    reach = 22  # pixels to each side: 3 + 4 · 4 of the largest kernel, and 3 of the gate

    def __init__(self, width: int):
        super().__init__(MultiScaleAttention(width), GatedSpatialUnit(width))


class AttentionTail(nn.Module):
    """LKAT, in the place of the trunk's last convolution: (B, C, h, w) -> the same."""

    reach = 15  # 3 + 4 · 3

    def __init__(self, width: int):
        super().__init__()
        self.open, self.close = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.large = large_kernel(width, 7, 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.open(x))
        return self.close(x * self.large(x))
