"""STUB until branch c."""

import torch
from torch import Generator

from vartutor.data.order import mix


def photo_seeds(seed, numbers):
    return torch.tensor([mix(seed, int(n), 7) for n in numbers.tolist()], device=numbers.device)


def uniform(seeds, count, stream=0):
    return torch.stack(
        [torch.rand(count, generator=Generator().manual_seed(mix(int(s) % 2**31, stream, 3))) for s in seeds.tolist()]
    ).to(seeds.device)


def normal(seeds, count, stream=0):
    return torch.stack(
        [torch.randn(count, generator=Generator().manual_seed(mix(int(s) % 2**31, stream, 3))) for s in seeds.tolist()]
    ).to(seeds.device)
