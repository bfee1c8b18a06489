"""Batches for full runs. A batch is a function of the step alone, so that a resumed run needs no memory of it."""

from typing import Protocol

import torch
from torch import Generator, Tensor

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation, degrade
from vartutor.data.pairs import Pairs, pyramid
from vartutor.data.photos import load_pixels
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.processes import Process
from vartutor.transformer.photo import photo_features


class Source(Protocol):
    """Where the images of a run come from."""

    def seek(self, step: int) -> None:
        """Next comes the batch of this step, counted in rounds of forward and backward."""

    def batch(self) -> Tensor:
        """This process's share of the next batch, (b, 3, H, W) in [-1, 1]."""

    def pairs(self) -> Pairs:
        """The same, degraded."""


class PhotoSource:
    """Random crops of the course's photographs; processes that share a batch make the same one as a single process.

    Args:
        size: side of a crop.
        batch: images per round, over all processes.
    """

    def __init__(self, size: int, batch: int, preset: Degradation, process: Process, seed: int = 0):
        self.preset, self.process, self.seed, self.count = preset, process, seed, batch
        part = process.part(batch)
        self.crops = RandomCrops(load_pixels("train"), size, batch, part=part)
        self.generator, self.part = Generator(), part

    def seek(self, step: int) -> None:
        """Next comes the batch of this step."""
        self.crops.generator.manual_seed(mix(self.seed, step, 0))
        self.generator.manual_seed(mix(self.seed, step, 1))

    def batch(self) -> Tensor:
        """This process's share of the next batch."""
        return self.crops.batch().to(self.process.device)

    def pairs(self) -> Pairs:
        """The same, degraded."""
        x = self.crops.batch()
        seeds = torch.randint(2**31, (self.count,), generator=self.generator)[self.part].tolist()
        return Pairs(degrade(x, self.preset, seeds=seeds).to(self.process.device), pyramid(x.to(self.process.device)))


class FeatureSource:
    """Pairs with the latents that a frozen tokenizer gives them: what :class:`TransformerLoss` draws from."""

    def __init__(self, source: Source, tokenizer: HierarchicalTokenizer):
        self.source, self.tokenizer = source, tokenizer

    @torch.no_grad()
    def batch(self) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Degraded photos (B, 3, h, w), and the features of the clean and of the degraded ones by scale group."""
        pairs = self.source.pairs()
        clean = tuple(self.tokenizer.encode(pairs.hr[max(pairs.hr)]))
        return pairs.lr, clean, photo_features(self.tokenizer, pairs.lr)


def mix(seed: int, step: int, stream: int) -> int:
    """A seed of its own for every step and every use, by splitmix64's scrambling of their sum."""
    mask = 2**64 - 1
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1
