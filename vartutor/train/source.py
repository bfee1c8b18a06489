"""Batches of a run. A batch is a function of the step alone, so that a resumed run needs no memory of it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vartutor.data.damage import damage
from vartutor.data.degradation import Degradation
from vartutor.data.draws import photo_seeds, uniform
from vartutor.data.folders import PhotoFolder
from vartutor.data.images import to_uint8
from vartutor.data.pairs import pyramid
from vartutor.data.photos import load_pixels
from vartutor.data.presets import get_preset
from vartutor.data.store import PhotoStore, send
from vartutor.data.tiles import load_set, prepared_sets
from vartutor.errors import UserError
from vartutor.train.processes import Process
from vartutor.train.settings import Settings


@dataclass(frozen=True)
class Batch:
    """Clean crops ``x`` (b, 3, H, W) in [-1, 1] on the run's device, and ``seeds`` (b,) int64, one per photo.

    All that is random about a photo is drawn from its own seed: so nothing depends on the processes or the rounds.
    """

    x: Tensor
    seeds: Tensor
    preset: Degradation

    def uniform(self, count: int, stream: int) -> Tensor:
        """Numbers in 0..1 that belong to the photos, (b, count)."""
        return uniform(self.seeds, count, stream)

    @cached_property
    def lr(self) -> Tensor:
        """The degraded photos, (b, 3, h, w)."""
        return damage(self.x, self.preset, self.seeds)

    @cached_property
    def hr(self) -> dict[int, Tensor]:
        """The clean photos at every scale, {s: (b, 3, H_s, W_s)}."""
        return pyramid(self.x)


class StoreSource:
    """Random crops of photographs: those of a number are a function of it and the seed.

    Args:
        images: (3, H, W) uint8 each.
        seed: of the stream.
    """

    def __init__(self, images: list[Tensor], run: Settings, device: torch.device, seed: int):
        self.store, self.run, self.device, self.seed = PhotoStore(images, device), run, device, seed
        self.preset = get_preset(run.degradation)

    def batch(self, numbers: range) -> Batch:
        """The photos of these numbers in the run's endless stream."""
        seeds = photo_seeds(self.seed, torch.arange(numbers.start, numbers.stop, device=self.store.home))
        x = self.store.crops(seeds, self.run.profile.image_size, augment=self.run.augment)
        return Batch(x, send(seeds, self.device), self.preset)


def share(step: int, k: int, run: Settings, process: Process) -> range:
    """Which photos are this process's in round k of a step: a step's photos do not depend on rounds or processes."""
    each = run.batch // run.accumulate
    part = process.part(each)
    begin = step * run.batch + k * each
    return range(begin + part.start, begin + part.stop)


def make_source(run: Settings, process: Process) -> StoreSource:
    """Where the run's ``data`` says the photos are.

    Raises:
        UserError: no usable photo there.
    """
    if run.data == "photos":
        images = load_pixels("train")
    elif sets := prepared_sets(Path(run.data)):
        images = [piece for folder in sets for piece in load_set(folder)]
        size, large = run.profile.image_size, sum(min(piece.shape[-2:]) >= run.profile.image_size for piece in images)
        if not large:
            raise UserError(f"{run.data}: no piece has {size} pixels a side: prepare it with --least {size} or more")
        if large < len(images):
            what = f"{len(images) - large} of {len(images)} pieces are below the crops' {size} pixels, and not used"
            warnings.warn(f"{run.data}: {what}", stacklevel=2)
    else:
        images = [to_uint8(photo) for photo in PhotoFolder(run.data, min_size=run.profile.image_size)]
    return StoreSource(images, run, process.device, run.seed)


def name_sets(data: str) -> list[str]:
    """Names of the photo sets that a run's ``data`` stands for."""
    return [folder.name for folder in prepared_sets(Path(data)) if data != "photos"] or [data]


class Feed:
    """What a loss gets to see: a batch, and what frozen models make of it.

    Args:
        source: of the photos.
        prepare: called with a batch, without gradients.
        keep: how many steps' batches are kept, and how often each is used before new ones are drawn: for what costs
            far more to prepare than to learn from.
    """

    def __init__(
        self,
        source: StoreSource,
        run: Settings,
        process: Process,
        prepare: Callable[[Batch], Any] = lambda batch: batch,
        keep: tuple[int, int] = (1, 1),
    ):
        self.source, self.run, self.process, self.prepare, self.keep = source, run, process, prepare, keep
        self.kept: dict[tuple[int, int], Any] = {}

    def __call__(self, step: int, k: int = 0) -> Any:
        """For round k of a step."""
        steps, uses = self.keep
        number = step // (steps * uses) * steps + step % steps
        if (number, k) not in self.kept:
            first = number - number % steps
            self.kept = {place: value for place, value in self.kept.items() if first <= place[0] and steps > 1}
            with torch.no_grad():
                batch = self.source.batch(share(number, k, self.run, self.process))
                self.kept[number, k] = self.prepare(batch)
        return self.kept[number, k]
