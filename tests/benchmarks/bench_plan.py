"""Does the plan's clock go right? OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_plan.py -s

On a quiet machine. FLOP/s are measured on one model; what they say of another, of other sizes, must come true within a
quarter.
"""

import statistics
import time
from dataclasses import replace

import pytest

from tests.test_plan import CPU, loss_of, trainer_of
from vartutor.plan.steps import count_step
from vartutor.profiles import Recipe


def seconds(step, rounds=5):
    step()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measured(run, profile, folder):
    """FLOPs of a step, and its seconds; frozen features are cached."""
    batch = profile.batch_size if run == "tokenizer" else profile.transformer.batch
    parts = count_step(run, profile).flops
    flops = batch * (parts.total() - parts["frozen features"])
    return flops, seconds(trainer_of(loss_of(run, profile), folder)._step)


def transformer(batch, width, depth):
    return replace(CPU, transformer=Recipe(width=width, depth=depth, heads=width // 32, batch=batch, slip=0.0))


@pytest.mark.parametrize(
    ("run", "known", "unknown"),
    [
        ("tokenizer", replace(CPU, batch_size=8, width=128), replace(CPU, batch_size=12, width=160)),
        ("transformer", transformer(4, 192, 4), transformer(6, 256, 6)),
    ],
    ids=["tokenizer", "transformer"],
)
def test_time_after_calibration(tmp_path, run, known, unknown):
    flops, taken = measured(run, known, tmp_path)
    speed = flops / taken
    flops, taken = measured(run, unknown, tmp_path)
    print(f"\n{speed / 1e9:.0f} GFLOP/s; {flops / speed * 1000:.0f} ms planned, {taken * 1000:.0f} ms measured", end="")
    assert flops / speed == pytest.approx(taken, rel=0.25)
