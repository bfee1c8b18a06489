"""Does the plan's clock go right? OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_plan.py -s

On a quiet machine. FLOP/s are measured on one model; what they say of another, of other sizes, must come true within a
quarter.
"""

import statistics
import time
from dataclasses import replace

import pytest

from tests.test_plan import CPU, batch_of, learn, loss_of, prepared
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


def measured(run, profile, images):
    """FLOPs of a round forwards and backwards, and its seconds; what is frozen was made before."""
    loss, parts = loss_of(run, profile), count_step(run, profile).flops
    seen = prepared(loss, batch_of(profile, images))
    return images * (parts.total() - parts["frozen features"]), seconds(lambda: learn(loss, seen))


def transformer(width, depth):
    return replace(CPU, transformer=Recipe(width=width, depth=depth, heads=width // 32, slip=0.0))


@pytest.mark.parametrize(
    ("run", "known", "unknown"),
    [
        ("tokenizer", (replace(CPU, width=128), 8), (replace(CPU, width=160), 12)),
        ("transformer", (transformer(192, 4), 4), (transformer(256, 6), 6)),
    ],
    ids=["tokenizer", "transformer"],
)
def test_time_after_calibration(run, known, unknown):
    flops, taken = measured(run, *known)
    speed = flops / taken
    flops, taken = measured(run, *unknown)
    print(f"\n{speed / 1e9:.0f} GFLOP/s; {flops / speed * 1000:.0f} ms planned, {taken * 1000:.0f} ms measured", end="")
    assert flops / speed == pytest.approx(taken, rel=0.25)
