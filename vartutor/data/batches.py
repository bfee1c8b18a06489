"""STUB until branch c."""

import torch

from vartutor.data.crops import random_crop, vary
from vartutor.data.degradation import degrade
from vartutor.data.draws import uniform


class PhotoStore:
    def __init__(self, images, device):
        self.images = images
        self.device = device

    def crops(self, seeds, size, *, jitter=2.0, augment=False):
        u = uniform(seeds, 8, 0).tolist()
        out = []
        ims = [i for i in self.images if min(i.shape[-2:]) >= size]
        for d in u:
            c = random_crop(ims[int(d[0] * len(ims))], size, jitter, d[1:5])
            out.append(vary(c, d[5:]) if augment else c)
        return torch.cat(out).to(self.device)


def damage(x, preset, seeds):
    return degrade(x.cpu(), preset, seeds=[int(s) % 2**31 for s in seeds.tolist()]).to(x.device)
