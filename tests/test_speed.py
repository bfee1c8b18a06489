"""The rates of a run: what a step computes, fused attention included."""

import pytest
import torch
import torch.nn.functional as F

from vartutor.train.speed import Speed


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_steps_flops_are_three_forward_passes(rounds):
    linear, x = torch.nn.Linear(8, 16), torch.randn(4, 8)
    q = torch.randn(2, 3, 5, 16)  # 2 images, 3 heads, 5 tokens of 16 numbers
    speed = Speed(torch.device("cpu"), False, photos=2)
    speed.count(lambda: (linear(x), F.scaled_dot_product_attention(q, q, q)), rounds)
    products = 2 * 4 * 8 * 16 + 2 * (2 * 2 * 3 * 5 * 5 * 16)
    assert speed.flops == 3 * rounds * products


def test_rates_count_from_the_last_row(monkeypatch):
    clock = iter([10.0, 12.0, 12.0, 13.0, 13.0])
    monkeypatch.setattr("vartutor.train.speed.peak_flops", lambda device, bf16: 100.0)
    monkeypatch.setattr("vartutor.train.speed.time.perf_counter", lambda: next(clock))
    speed = Speed(torch.device("cpu"), False, photos=8)
    speed.flops = 50.0
    for _ in range(3):
        speed.stepped()
    first = speed.numbers()
    assert first["photos/s"] == 8 * 3 / 2
    assert first["mfu"] == 50 * 3 / (2 * 100)
    assert first["memory"] > 0.01
    speed.stepped()
    assert speed.numbers()["photos/s"] == 8
