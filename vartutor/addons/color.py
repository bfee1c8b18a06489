"""Colour fixes: give a restored photo the colours of the degraded one.

Tokens that are slightly off can tint an area. VARSR (Qu et al., 2025) therefore takes the statistics of the channels
from the degraded photo, enlarged bicubically, and StableSR (Wang et al., 2023) these or all low frequencies. A photo
is decoded block by block, so a fix works in two steps: on a block with its surroundings, and on the whole result.
"""

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vartutor.data.images import from_pil, to_pil
from vartutor.superres import ColorFix


class MeanFix(ColorFix):
    """Adaptive instance normalisation of the means: every channel gets the photo's mean, to half a gray level."""

    looks = True

    def __init__(self, s: int):
        super().__init__(s)
        self.lacking, self.count = torch.zeros(3, dtype=torch.float64), 0

    def observe(self, image: Tensor, photo: Tensor) -> None:
        self.lacking += (photo - image).double().sum((1, 2))
        self.count += image[0].numel()

    def whole(self, image: Image.Image) -> None:
        shift = (self.lacking / self.count).float()[:, None, None]
        for top in range(0, image.height, 256):  # a large photo as floats would not fit
            rows = image.crop((0, top, image.width, min(top + 256, image.height)))
            image.paste(to_pil(from_pil(rows) + shift), (0, top))


class WaveletFix(ColorFix):
    """Keep the image's details, take the photo's low frequencies: what is left after undecimated smoothing.

    The number of levels grows with the scale (ours), so that at every scale the same low frequencies of the photo
    are meant: 3 at ×1, 5 at ×4, where it is StableSR's.
    """

    margin, looks = 8, True

    def local(self, image: Tensor, photo: Tensor) -> Tensor:
        # Smoothing is linear: image - low(image) + low(photo).
        return image + low_frequencies(photo - image, 2 + self.s.bit_length())


def low_frequencies(x: Tensor, levels: int) -> Tensor:
    """(C, H, W) -> (C, H, W): à trous, ¼ ½ ¼ along rows and columns at distance 1, 2, 4, … 2^(levels - 1)."""
    taps = x.new_tensor([0.25, 0.5, 0.25]).expand(x.shape[0], 1, 1, 3)
    for distance in (2**i for i in range(levels)):
        for kernel, pad, dilation in (
            (taps, (distance, distance, 0, 0), (1, distance)),
            (taps.transpose(2, 3), (0, 0, distance, distance), (distance, 1)),
        ):
            x = F.conv2d(F.pad(x[None], pad, mode="replicate"), kernel, groups=x.shape[0], dilation=dilation)[0]
    return x


FIXES = {"none": ColorFix, "mean": MeanFix, "wavelet": WaveletFix}
