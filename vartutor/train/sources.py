"""Batches for full runs. A batch is a function of the step alone, so that a resumed run needs no memory of it."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation, degrade
from vartutor.data.order import mix
from vartutor.data.pairs import Pairs, pyramid
from vartutor.data.photos import load_pixels
from vartutor.data.shards import INDEX, CropStream, ShardedPhotos
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.processes import Process
from vartutor.transformer.photo import pair_features


class Source(Protocol):
    """Where the images of a run come from."""

    def seek(self, step: int) -> None:
        """Next comes the batch of this step, counted in rounds of forward and backward."""

    def batch(self) -> Tensor:
        """This process's share of the next batch, (b, 3, H, W) in [-1, 1]."""

    def pairs(self) -> Pairs:
        """The same, degraded."""


def name_sets(data: str) -> list[str]:
    """Names of the photo sets that a run's ``data`` stands for: ``photos``, or a folder of shards."""
    if data == "photos":
        return [data]
    return sorted(index.parent.name for index in (*Path(data).glob(INDEX), *Path(data).glob(f"*/{INDEX}")))


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


class ShardSource:
    """Crops from prepared sets, read, cut and degraded in worker processes ahead of time.

    Args:
        folder: what ``vartutor data prepare`` made.
        size: side of a crop.
        batch: images per round, over all processes.
        preset: how to degrade; None for a run that needs clean crops alone.
        workers: processes; 0 does it in this one.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        batch: int,
        preset: Degradation | None,
        process: Process,
        *,
        seed: int = 0,
        workers: int = 2,
    ):
        self.stream = CropStream(ShardedPhotos(folder), size, preset, seed)
        self.count, self.process, self.workers = batch, process, workers
        self.next, self.batches = -1, iter(())

    def seek(self, step: int) -> None:
        """Next comes the batch of this step; steps in their order are read ahead."""
        if step != self.next:
            ahead = {"prefetch_factor": 4} if self.workers else {}
            numbers = Numbers(step, self.count, self.process.part(self.count))
            loader = DataLoader(self.stream, batch_sampler=numbers, num_workers=self.workers, **ahead)
            self.next, self.batches = step, iter(loader)

    def batch(self) -> Tensor:
        """This process's share of the next batch."""
        return self._draw()[0]

    def pairs(self) -> Pairs:
        """The same, degraded."""
        x, lr = self._draw()
        return Pairs(lr, pyramid(x))

    def _draw(self) -> list[Tensor]:
        self.next += 1
        return [tensor.to(self.process.device, non_blocking=True) for tensor in next(self.batches)]


class Numbers:
    """Which crops of the stream a process's batches consist of, from ``step`` on."""

    def __init__(self, step: int, batch: int, part: slice):
        self.step, self.batch, self.part = step, batch, part

    def __iter__(self) -> Iterator[list[int]]:
        for step in count(self.step):
            yield list(range(step * self.batch, (step + 1) * self.batch))[self.part]


class FeatureSource:
    """Pairs with the latents that a frozen tokenizer gives them: what :class:`TransformerLoss` draws from."""

    def __init__(self, source: Source, tokenizer: HierarchicalTokenizer):
        self.source, self.tokenizer = source, tokenizer

    def batch(self) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Degraded photos (B, 3, h, w), and the features of the clean and of the degraded ones by scale group."""
        pairs = self.source.pairs()
        return pairs.lr, *pair_features(self.tokenizer, pairs.lr, pairs.hr[max(pairs.hr)])
