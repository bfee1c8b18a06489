"""What is random about a photo of a training batch: a function of the photo's own seed, on any device.

Whatever batch a photo is in, on however many processes, its numbers are the same, and there is no state to save.
A seed has many streams of numbers; :mod:`vartutor.data` uses those below 100.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Those of splitmix64, as numbers of 64 bits with a sign.
_A, _B, _C = (number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mix(seed: int, step: int, stream: int) -> int:
    """A seed of its own for every step and every use, by splitmix64's scrambling of their sum."""
    mask = 2**64 - 1
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def photo_seeds(seed: int, numbers: Tensor) -> Tensor:
    """The seeds (B,) of the photos that a run with ``seed`` sees as its ``numbers`` (B,), both int64."""
    z = _scramble(torch.full_like(numbers, seed), numbers, 2**21)
    return ((z ^ ((z >> 31) & (2**33 - 1))) >> 1) & (2**63 - 1)  # in full as `mix`


def uniform(seeds: Tensor, count: int, stream: int = 0) -> Tensor:
    """(B,) int64 -> (B, count) in [0, 1): number ``i`` depends on its photo's seed, ``i`` and ``stream`` alone."""
    return uniform_at(seeds, torch.arange(count, device=seeds.device).expand(len(seeds), -1), stream)


def normal(seeds: Tensor, count: int, stream: int = 0) -> Tensor:
    """(B,) int64 -> (B, count) standard normal numbers, independent of the uniform ones of the same stream."""
    return normal_at(seeds, torch.arange(count, device=seeds.device).expand(len(seeds), -1), stream)


def uniform_at(seeds: Tensor, places: Tensor, stream: int) -> Tensor:
    """Seeds (B,) and ``places`` (B, ...) in their streams -> the numbers in [0, 1) there, (B, ...) float32."""
    return _fraction(_scramble(seeds, places, stream).bitwise_right_shift_(40))


def normal_at(seeds: Tensor, places: Tensor, stream: int) -> Tensor:
    """As :func:`uniform_at`, (B, ...), but normal, by the transform of Box and Muller (1958): ±5.8 at most."""
    z = _scramble(seeds, places, -1 - stream)
    radius = _fraction(z >> 40).neg_().add_(1).log_().mul_(-2).sqrt_()
    return _fraction(z.bitwise_right_shift_(16)).mul_(2 * math.pi).cos_().mul_(radius)


def _fraction(bits: Tensor) -> Tensor:
    """The lowest 24 bits, as many as a float32 holds, as a number in [0, 1)."""
    return bits.bitwise_and_(2**24 - 1).float().mul_(2**-24)


def _scramble(seeds: Tensor, places: Tensor, stream: int) -> Tensor:
    """splitmix64 as in :func:`mix`, but for its last step: 64 bits, of which the upper 48 serve.

    In place wherever it can be: on the CPU most of the time of large tensors goes into new memory.
    """
    z = places * _B
    z += (seeds * _A + torch.full_like(seeds, stream) * _C).view(-1, *(1,) * (places.dim() - 1))
    high = torch.empty_like(z)
    for shift, factor in ((30, _B), (27, _C)):
        torch.bitwise_right_shift(z, shift, out=high)
        z ^= high.bitwise_and_(2 ** (64 - shift) - 1)  # splitmix64 shifts zeros in, a signed integer its sign
        z *= factor
    return z


class BatchDice:
    """:class:`vartutor.data.degradation.Dice` for a batch: a throw gives every photo its own number, (B, 1, 1, 1).

    Args:
        seeds: (B,) int64; the throws are made on their device.
        stream: which of the seeds' numbers to use; there are 64.
    """

    def __init__(self, seeds: Tensor, stream: int):
        self.numbers = iter(uniform(seeds, 64, stream)[..., None, None, None].unbind(1))

    def uniform(self, bounds: tuple[float, float]) -> Tensor:
        """Numbers (B, 1, 1, 1) between two bounds."""
        return bounds[0] + (bounds[1] - bounds[0]) * next(self.numbers)

    def chance(self, probability: float) -> Tensor:
        """Whether it happens, (B, 1, 1, 1) bool."""
        return next(self.numbers) < probability

    def choice(self, items: Sequence, weights: Sequence[float] | None = None) -> Tensor:
        """Some of ``items``, which are numbers: (B, 1, 1, 1)."""
        weights = weights or [1.0] * len(items)
        number = next(self.numbers) * sum(weights)
        ends = constant(tuple(itertools.accumulate(weights))[:-1], number.device)
        return constant(tuple(items), number.device)[(number[..., None] >= ends).sum(-1)]


_constants: dict[tuple, Tensor] = {}


def constant(values: tuple, device: torch.device) -> Tensor:
    """A small table of any shape on a device, copied there once, as every copy makes the host wait for the device."""
    key = (values, *map(type, values), device)  # as True == 1 == 1.0
    if key in _constants:
        return _constants[key]
    table = torch.tensor(values, device=device)
    if type(table) is Tensor:  # torch's fake tensors live no longer than their mode
        _constants[key] = table
    return table
