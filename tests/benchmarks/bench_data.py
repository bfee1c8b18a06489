"""How much of a training step the data takes, on a quiet machine: python -m pytest tests/benchmarks/bench_data.py

A training step of the largest course model takes about 330 ms; its data must take no more than a tenth of that.
"""

import pytest

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import degrade
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import PRESETS, get_preset
from vartutor.perceptual import perceptual_distance

STEP = 0.33  # seconds


@pytest.fixture(scope="module")
def crops():
    return RandomCrops(load_pixels("train"), size=64, batch_size=16)


def median(benchmark, call, rounds: int = 50) -> float:
    benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)
    return benchmark.stats.stats.median


def test_crops(crops, benchmark):
    assert median(benchmark, crops.batch) < 0.1 * STEP


@pytest.mark.parametrize(("name", "share"), [("bicubic", 0.015), ("course", 0.1), ("varsr", 0.3)])
def test_degrade(crops, benchmark, name, share):
    x, preset = crops.batch(), get_preset(name)
    assert median(benchmark, lambda: degrade(x, preset)) < share * STEP


def test_whole_batch(crops, benchmark):
    assert median(benchmark, lambda: make_pairs(crops.batch(), PRESETS["course"])) < 0.1 * STEP


def test_decoding_the_training_photos(benchmark):
    load_pixels.cache_clear()
    assert median(benchmark, lambda: load_pixels.__wrapped__("train"), 1) < 5


def test_perceptual_distance(crops, benchmark):
    x, y = crops.batch(), crops.batch()
    assert median(benchmark, lambda: perceptual_distance(x, y), 20) < STEP
