"""Memory and open files over a long run in one process: OMP_NUM_THREADS=1 python tests/benchmarks/long_run.py

300 restorations of a small photo with the shipped model, then 5,000 steps of a training at toy size, with a state every
hundred. A line per hundred: resident memory and open files. Ends with exit code 1 if the last line has grown by more
than a twentieth over the middle one.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import psutil
import torch

from vartutor.data.photos import find_photo
from vartutor.profiles import get_profile
from vartutor.superres import SuperResolver
from vartutor.train import kinds, trainer

EVERY = 100


def measure(what: str, count: int, seen: list[tuple[float, int]]) -> None:
    """Print a line, and keep its numbers."""
    me = psutil.Process()
    seen.append((me.memory_info().rss / 2**20, me.num_fds() if hasattr(me, "num_fds") else len(me.open_files())))
    print(f"{what:<9} {count:>5}  {seen[-1][0]:7.0f} MB  {seen[-1][1]:>4} open files", flush=True)


def upscales(count: int) -> list[tuple[float, int]]:
    """Restore a photo of 16 × 16 pixels over and over."""
    resolver, photo, seen = SuperResolver.from_pretrained(), find_photo("lemur").load()[:, :16, :16], []
    for k in range(count):
        resolver.upscale(photo, seed=k % 10)
        if (k + 1) % EVERY == 0:
            measure("upscales", k + 1, seen)
    return seen


def steps(count: int) -> list[tuple[float, int]]:
    """Train a small net, and look at it, log and save on the way."""
    seen, original = [], trainer.Trainer._step

    def step(self, moment):
        numbers = original(self, moment)
        if self.step % EVERY == 0:
            measure("steps", self.step, seen)
        return numbers

    trainer.Trainer._step = step
    run = kinds.KINDS["baseline"].settings.of(get_profile("smoke"), steps=count, save_every=EVERY, validate_every=1000)
    with tempfile.TemporaryDirectory() as out:
        kinds.train("baseline", run, Path(out), device="cpu")
    return seen


if __name__ == "__main__":
    told = argparse.ArgumentParser()
    told.add_argument("--upscales", type=int, default=300)
    told.add_argument("--steps", type=int, default=5000)
    args = told.parse_args()
    torch.set_num_threads(1)
    flat = True
    for seen in (upscales(args.upscales), steps(args.steps)):
        if len(seen) > 2:
            (before, files), (after, files_after) = seen[len(seen) // 2], seen[-1]  # the first validation takes memory
            flat = flat and after < 1.05 * before and files_after <= files
    sys.exit(not flat)
