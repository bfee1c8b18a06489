"""Writes piq.json beside this file; see README.md."""

import json
from pathlib import Path

import piq
import torch

from vartutor.data.degradation import blur, gaussian_noise, jpeg
from vartutor.data.images import from_uint8, to_uint8
from vartutor.data.kernels import gaussian_kernel
from vartutor.data.photos import find_photo
from vartutor.metrics import luma

# Sides are even: elsewhere piq pads the odd side, where vartutor drops the last row.
PHOTOS = (
    ("gc_world_animals_lemur.jpg", (256, 256)),
    ("gc_erase_crab.jpg", (192, 320)),
    ("scipy_raccoon.jpg", (176, 208)),
)
OPTIONS = {"data_range": 1.0, "reduction": "none"}


def distort(x, kind):
    if kind == "blur":
        y = blur(x, gaussian_kernel(13, 1.6))
    elif kind == "noise":
        y = gaussian_noise(x, 12, generator=torch.Generator().manual_seed(7))
    else:
        y = jpeg(x, 30)
    return from_uint8(to_uint8(y))


def measure(x, y):
    luma_x, luma_y = luma(x).double() / 255, luma(y).double() / 255
    rgb_x, rgb_y = (x.double() + 1) / 2, (y.double() + 1) / 2
    channels = [piq.gmsd(rgb_x[:, c : c + 1], rgb_y[:, c : c + 1], **OPTIONS) for c in range(3)]
    return {
        "gmsd_y": piq.gmsd(luma_x, luma_y, **OPTIONS).item(),
        "gmsd_rgb": torch.stack(channels).mean().item(),
        "ssim_y": piq.ssim(luma_x, luma_y, downsample=False, **OPTIONS).item(),
    }


cases = []
for name, (height, width) in PHOTOS:
    x = find_photo(name).load()[None, :, :height, :width]
    for kind in ("blur", "noise", "jpeg"):
        case = {"photo": name, "height": height, "width": width, "distortion": kind}
        cases.append(case | measure(x, distort(x, kind)))
golden = {"source": "piq 0.8.0, float64", "cases": cases}
(Path(__file__).parent / "piq.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
