"""Random orders as functions of a number, so that nothing about them has to be remembered."""

from functools import lru_cache

import torch
from torch import Generator, Tensor


def mix(seed: int, step: int, stream: int) -> int:
    """A seed of its own for every step and every use, by splitmix64's scrambling of their sum."""
    mask = 2**64 - 1
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def shuffled(number: int, length: int, seed: int) -> int:
    """Which of ``length`` things comes at place ``number`` of a stream that gives each of them once per epoch."""
    epoch, place = divmod(number, length)
    return int(_permutation(length, mix(seed, epoch, 2**20))[place])


@lru_cache(maxsize=2)
def _permutation(length: int, seed: int) -> Tensor:
    return torch.randperm(length, generator=Generator().manual_seed(seed))
