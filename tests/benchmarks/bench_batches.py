"""Crops and damage in batches beside one photo at a time: python -m pytest tests/benchmarks/bench_batches.py

On the CPU, where a batch has the least to gain. OMP_NUM_THREADS=1 for one thread. The two ways take turns, so that
both meet the same machine; the table gives the time of a batch, its last column that of the photos one by one.
"""

import statistics
import time

import pytest
import torch

from vartutor.data.crops import RandomCrops
from vartutor.data.damage import damage
from vartutor.data.degradation import degrade
from vartutor.data.draws import photo_seeds
from vartutor.data.photos import load_pixels
from vartutor.data.presets import get_preset
from vartutor.data.store import PhotoStore


@pytest.fixture(scope="module")
def store():
    return PhotoStore(load_pixels("train"))


def race(benchmark, batched, single, rounds: int = 50) -> float:
    """Median time of a batch, as a share of that of single photos."""
    durations = []

    def setup():
        start = time.perf_counter()
        single()
        durations.append(time.perf_counter() - start)

    benchmark.pedantic(batched, setup=setup, rounds=rounds, warmup_rounds=2)
    benchmark.extra_info["one by one (ms)"] = 1000 * statistics.median(durations)
    share = benchmark.stats.stats.median / statistics.median(durations)
    print(f"\n{benchmark.name}: {1000 * benchmark.stats.stats.median:.1f} ms, {share:.2f} of one by one")
    return share


@pytest.fixture(params=[8, 16])
def size(request):
    return request.param


@pytest.fixture
def seeds(size):
    """Seeds of the next batch."""
    steps = iter(range(10**9))
    return lambda: photo_seeds(0, torch.arange(size) + size * next(steps))


def test_crops(store, size, seeds, benchmark):
    crops = RandomCrops(load_pixels("train"), 64, size)
    assert race(benchmark, lambda: store.crops(seeds(), 64), crops.batch) < 1.5


@pytest.mark.parametrize("name", ["course", "varsr"])
def test_damage(store, size, seeds, name, benchmark):
    x, preset = store.crops(seeds(), 64), get_preset(name)
    assert race(benchmark, lambda: damage(x, preset, seeds()), lambda: degrade(x, preset)) < 1


@pytest.mark.parametrize("name", ["course", "varsr"])
def test_crops_with_damage(store, size, seeds, name, benchmark):
    crops, preset = RandomCrops(load_pixels("train"), 64, size), get_preset(name)

    def batched():
        numbers = seeds()
        return damage(store.crops(numbers, 64), preset, numbers)

    assert race(benchmark, batched, lambda: degrade(crops.batch(), preset)) < 1
