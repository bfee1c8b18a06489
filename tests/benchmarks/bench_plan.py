"""Does the plan's clock go right? OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_plan.py -s

On a quiet machine. FLOP/s are measured on one model; what they say of another, of other sizes, must come true within a
quarter.
"""

import statistics
import time
from dataclasses import replace

import pytest

from tests.test_plan import CPU, crops_of, tokenizer_of, trainer_of, transformer_of
from vartutor.plan.flops import tokenizer_step, transformer_step
from vartutor.train.tokenizer import Losses, TokenizerLoss
from vartutor.train.transformer import Objective, TransformerLoss


def seconds(step, rounds=5):
    step()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def tokenizer(folder, batch, width):
    profile = replace(CPU, batch_size=batch, width=width)
    model = tokenizer_of(profile)
    loss = TokenizerLoss(model, crops_of(profile), Losses(revive_every=0), 10)
    flops = batch * sum(part.total for part in tokenizer_step(model, profile.image_size))
    return flops, seconds(trainer_of(model, loss, folder)._step)


def transformer(folder, batch, width, depth):
    profile = replace(CPU, batch_size=batch)
    model, frozen, cache = transformer_of(profile, width, depth, width // 32)
    loss = TransformerLoss(model, cache, Objective())
    cached = ("frozen features",)  # the cache holds them
    parts = transformer_step(model, frozen, profile.image_size)
    flops = batch * sum(part.total for part in parts if part.name not in cached)
    return flops, seconds(trainer_of(model, loss, folder)._step)


@pytest.mark.parametrize(
    ("run", "known", "unknown"),
    [(tokenizer, (8, 128), (12, 160)), (transformer, (4, 192, 4), (6, 256, 6))],
    ids=["tokenizer", "transformer"],
)
def test_time_after_calibration(tmp_path, run, known, unknown):
    flops, taken = run(tmp_path, *known)
    speed = flops / taken
    flops, taken = run(tmp_path, *unknown)
    print(f"\n{speed / 1e9:.0f} GFLOP/s; {flops / speed * 1000:.0f} ms planned, {taken * 1000:.0f} ms measured", end="")
    assert flops / speed == pytest.approx(taken, rel=0.25)
