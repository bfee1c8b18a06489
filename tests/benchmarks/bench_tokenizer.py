"""Seconds of the tokenizers on a quiet machine: python -m pytest tests/benchmarks/bench_tokenizer.py -s"""

import resource
from dataclasses import replace

import pytest
import torch

from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.jobs import tokenizer_job
from vartutor.train.processes import Process
from vartutor.train.settings import TokenizerSettings
from vartutor.train.trainer import Trainer


@pytest.fixture(scope="module")
def published():
    """VAR's tokenizer at its published size, with random weights, and a photo of 256 px."""
    torch.manual_seed(0)
    groups = ((1, 2, 3, 4, 5, 6, 8, 10, 13, 16),)
    config = TokenizerConfig.of(replace(get_profile("gpu"), groups=groups), "var")
    return build_tokenizer(config).eval().requires_grad_(False), torch.rand(1, 3, 256, 256) * 2 - 1


def test_tokenize_at_the_published_size(benchmark, published):
    model, x = published
    indices = benchmark.pedantic(model.tokenize, (x,), rounds=5, warmup_rounds=1)
    assert sum(idx.shape[1] for idx in indices) == 680


def test_decode_at_the_published_size(benchmark, published):
    model, x = published
    f_hat = model.latents(model.tokenize(x))[-1]
    image = benchmark.pedantic(model.decode, (f_hat,), rounds=5, warmup_rounds=1)
    assert image.shape == x.shape
    print(f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_training_step_of_the_course(benchmark, tmp_path, bf16):
    run = TokenizerSettings.of(get_profile("cpu"), steps=1000, bf16=bf16)
    trainer = Trainer(tokenizer_job(run, Process()), run, tmp_path, Process())
    trainer.model.train()
    numbers = benchmark.pedantic(lambda: trainer._step(trainer._moment()), rounds=20, warmup_rounds=3)
    assert numbers["loss"] > 0
    assert benchmark.stats.stats.median < 0.35
