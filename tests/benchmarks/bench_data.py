"""How much of a training step the data takes; run on a quiet machine, since the limits are tight:

pytest tests/benchmarks/bench_data.py -s

A training step of the course takes about 330 ms; its data must take no more than a tenth of that on one thread.
"""

import pytest

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import degrade
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import PRESETS, get_preset
from vartutor.perceptual import perceptual_distance

STEP_MS = 330


@pytest.fixture(scope="module")
def crops():
    return RandomCrops(load_pixels("train"), size=64, batch_size=16)


def report(name, milliseconds):
    print(f"\n{name}: {milliseconds:.1f} ms", end="")
    return milliseconds


def test_crops(crops, median_ms):
    assert report("16 crops of 64 px", median_ms(crops.batch, 50)) < 0.1 * STEP_MS


@pytest.mark.parametrize(("name", "limit"), [("bicubic", 5), ("course", 0.1 * STEP_MS), ("varsr", 0.3 * STEP_MS)])
def test_degrade(crops, median_ms, name, limit):
    x, preset = crops.batch(), get_preset(name)
    assert report(f"degrading them, {name}", median_ms(lambda: degrade(x, preset), 50)) < limit


def test_whole_batch(crops, median_ms):
    whole = median_ms(lambda: make_pairs(crops.batch(), PRESETS["course"]), 50)
    assert report("crops and pairs, course", whole) < 0.1 * STEP_MS


def test_decoding_the_training_photos(median_ms):
    load_pixels.cache_clear()
    assert report("decoding the train split", median_ms(lambda: load_pixels.__wrapped__("train"), 1)) < 5000


def test_perceptual_distance(crops, median_ms):
    x, y = crops.batch(), crops.batch()
    assert report("perceptual distance of 16 crops", median_ms(lambda: perceptual_distance(x, y), 20)) < STEP_MS
