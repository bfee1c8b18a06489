"""A perceptual distance that needs no download.

It is the unweighted form of the distance of Zhang et al. (2018, section 3) on other features: those of
EfficientNet-Lite0, trained on ImageNet. It is not LPIPS: no human judgements went into it, and its values
compare with nothing outside this course. :mod:`vartutor.metrics_extra` has LPIPS for machines with a network.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vartutor.data.images import check_image
from vartutor.weights.files import load_checkpoint

CHECKPOINT = "efficientnet_lite0_features.safetensors"

# (blocks, kernel, stride, expansion, channels out); batch norm is folded into the convolutions.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
TAPS = (0, 1, 2, 4)  # the last stage at each of the strides 2, 4, 8, 16


class SameConv(nn.Conv2d):
    """(B, C, H, W) -> (B, C, ⌈H / stride⌉, ⌈W / stride⌉) with TensorFlow's padding: the odd pixel right and below."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class InvertedResidual(nn.Module):
    """MobileNetV2's block, (B, C, H, W): widen, filter each channel, narrow; a shortcut where the shape stays."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = c_in * expansion
        self.expand = SameConv(c_in, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv(wide, c_out, 1)
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.expand is None else F.relu6(self.expand(x))
        h = self.project(F.relu6(self.depthwise(h)))
        return x + h if self.shortcut else h


class EfficientNetLite0(nn.Module):
    """The trunk of EfficientNet-Lite0 down to stride 16: (B, 3, H, W) in [-1, 1] -> four feature maps."""

    def __init__(self):
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        channels = 32
        for blocks, kernel, stride, expansion, c_out in STAGES:
            stage = nn.Sequential()
            for i in range(blocks):
                stage.append(InvertedResidual(channels, c_out, kernel, stride if i == 0 else 1, expansion))
                channels = c_out
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        maps = []
        for k, stage in enumerate(self.stages):
            x = stage(x)
            if k in TAPS:
                maps.append(x)
        return maps


class PerceptualDistance(nn.Module):
    """Distance between two images in the feature space of a classifier; also a training loss.

    At each of four depths the features are scaled to unit length at every position; the distance is the
    squared difference, averaged over positions and depths. 0 for equal images, near 2 for unrelated ones.
    """

    def __init__(self):
        super().__init__()
        self.features = EfficientNetLite0()
        self.features.load_state_dict(load_checkpoint(CHECKPOINT))
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], twice -> (B,)."""
        distances = []
        for fx, fy in zip(self.features(x), self.features(y), strict=True):
            difference = F.normalize(fx, dim=1) - F.normalize(fy, dim=1)
            distances.append(difference.square().sum(1).mean(dim=(1, 2)))
        return torch.stack(distances).mean(0)


@lru_cache(maxsize=1)
def _shared() -> PerceptualDistance:
    return PerceptualDistance()


@torch.no_grad()
def perceptual_distance(x: Tensor, y: Tensor) -> Tensor:
    """:class:`PerceptualDistance` for evaluation: (B, 3, H, W) in [-1, 1], twice -> (B,) on the CPU, no gradient."""
    return _shared()(*(check_image(z.cpu()).float() for z in (x, y)))
