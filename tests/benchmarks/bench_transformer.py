"""Seconds of the transformers on a quiet machine: python -m pytest tests/benchmarks/bench_transformer.py -s

VAR-d16 at 256 px, batch 1, random weights. On the machine that the course was made on, two cores, its authors' code
needed 2.80 s forward, 7.90 s forward and backward, and 7.38 s to generate with guidance.
"""

import resource
import time
from dataclasses import replace

import pytest
import torch

from tests.test_plan import batch_of, learn, loss_of, prepared
from vartutor.plan.steps import count_step
from vartutor.profiles import get_profile
from vartutor.superres import SuperResolver
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.transformer.condition import Condition
from vartutor.transformer.generate import iterate
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig

LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)


@pytest.fixture(scope="module")
def d16():
    torch.manual_seed(0)
    return NextScaleTransformer(TransformerConfig(LADDER, 4096, 32, width=1024, depth=16, heads=16, classes=1001))


def peak() -> str:
    return f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"


def test_forward(benchmark, d16):
    inputs = torch.randn(1, 679, 32)

    @torch.no_grad()
    def forward():
        return d16(Condition(d16.class_emb(torch.tensor([7]))), inputs)

    assert benchmark.pedantic(forward, rounds=7, warmup_rounds=2).shape == (1, 680, 4096)
    print(peak())


def test_forward_and_backward(benchmark, d16):
    inputs, targets = torch.randn(1, 679, 32), torch.randint(4096, (680,))

    def step():
        d16.zero_grad(set_to_none=True)
        logits = d16(Condition(d16.class_emb(torch.tensor([7]))), inputs)
        torch.nn.functional.cross_entropy(logits[0], targets).backward()

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    assert d16.head.weight.grad is not None
    print(peak())


def test_guided_generation(benchmark, d16):
    config = TokenizerConfig.of(replace(get_profile("gpu"), groups=(LADDER,)), "var")
    tokenizer = build_tokenizer(config).eval().requires_grad_(False)
    condition, null = (Condition(d16.class_emb(torch.tensor([label]))) for label in (7, 1000))

    def draw():
        return list(iterate(d16, tokenizer, condition, null=null, guidance=1.5, top_k=900, top_p=0.96))

    assert len(benchmark.pedantic(draw, rounds=5, warmup_rounds=1)) == len(LADDER)
    print(peak())


@pytest.mark.parametrize("side", [64, 128, 256])
def test_upscale(benchmark, side):
    resolver, x = SuperResolver.from_pretrained(), torch.rand(3, side, side) * 2 - 1
    images = benchmark.pedantic(resolver.upscale, (x,), rounds=2, warmup_rounds=1)
    assert images[4].shape == (3, 4 * side, 4 * side)
    print(f"\n{1e6 * benchmark.stats.stats.median / side**2:.0f} µs per pixel", peak())
    assert side < 256 or benchmark.stats.stats.median < 30


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_training_step_of_the_course(benchmark, bf16):
    profile = get_profile("cpu")
    batch = profile.transformer.batch
    loss, photos = loss_of("transformer", profile, bf16), batch_of(profile, batch)
    benchmark.pedantic(lambda: learn(loss, prepared(loss, photos)), rounds=10, warmup_rounds=3)
    rate, best = batch * count_step("transformer", profile).flops.total() / benchmark.stats.stats.median, matmul_rate()
    print(f"\n{rate / 1e9:.0f} GFLOP/s of the model; matrix products in fp32 reach {best / 1e9:.0f}")
    assert rate > 0.5 * best


def matmul_rate(n: int = 2048) -> float:
    a, times = torch.randn(n, n), []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times)
