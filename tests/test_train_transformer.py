"""Training the transformer: cached latents, the objective, the official decay rules, runs that resume."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vartutor.data.crops import RandomCrops
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.loop import Trainer
from vartutor.train.transformer import FeatureCache, Objective, TransformerLoss, decay_groups, train_transformer
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.official import rename
from vartutor.transformer.photo import PhotoTransformer

SMOKE = replace(get_profile("smoke"), batch_size=2)
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return build_tokenizer(TokenizerConfig.of(SMOKE, "hit")).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def config(tokenizer):
    return TransformerConfig(tokenizer.quantizer.patch_nums, 64, 16, 32, 2, 2, rope=True)


def make_cache(tokenizer, **options):
    return FeatureCache(tokenizer, RandomCrops(load_pixels("train"), 64, 2, seed=1), COURSE, **options)


def equal(a, b):
    return torch.equal(a[0], b[0]) and all(torch.equal(p, q) for p, q in zip(a[1] + a[2], b[1] + b[2], strict=True))


def test_cached_batches_come_again_and_then_new_ones(tokenizer):
    cache = make_cache(tokenizer, batches=2, epochs=2)
    seen = [cache.batch() for _ in range(5)]
    assert equal(seen[0], seen[2])
    assert equal(seen[1], seen[3])
    assert not equal(seen[0], seen[4])
    assert [tuple(f.shape) for f in seen[0][1]] == [(2, 16, p, p) for p in (4, 8, 16)]


def test_a_cache_goes_on_where_it_stood(tokenizer):
    cache = make_cache(tokenizer, batches=2, epochs=1)
    for _ in range(3):
        cache.batch()
    other = make_cache(tokenizer, batches=2, epochs=1)
    other.load_state_dict(cache.state_dict())
    for _ in range(4):
        assert equal(cache.batch(), other.batch())


def test_a_resumed_run_is_bit_for_bit_the_same(tokenizer, config, tmp_path, monkeypatch):
    options = {"config": config, "steps": 6, "objective": Objective(1.0, 1.0, 0.3, 1.0, 0.5)}
    monkeypatch.setattr(FeatureCache.__init__, "__kwdefaults__", {"batches": 2, "epochs": 2, "seed": 0})
    whole = train_transformer(SMOKE, tokenizer, tmp_path / "whole", **options)
    original = Trainer._step

    def cut(trainer):
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(trainer)

    monkeypatch.setattr(Trainer, "_step", cut)
    with pytest.raises(KeyboardInterrupt):
        train_transformer(SMOKE, tokenizer, tmp_path / "part", **options)
    monkeypatch.setattr(Trainer, "_step", original)
    torch.manual_seed(999)
    again = train_transformer(SMOKE, tokenizer, tmp_path / "part", resume=True, **options)
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.rows[-1] == whole.rows[-1]


def test_training_learns(tokenizer, config, tmp_path):
    torch.manual_seed(0)
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=False)
    cache = make_cache(tokenizer, batches=1, epochs=1000)
    loss = TransformerLoss(model, cache, Objective())
    optimizer = torch.optim.AdamW(decay_groups(model, 0.0), lr=3e-3)
    entropies = []
    for step in range(40):
        value, numbers = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        entropies.append(numbers["ce"])
    assert entropies[-1] < entropies[0] - 0.5


def test_soft_targets_and_expected_codes_by_hand(tokenizer, config):
    model = PhotoTransformer(config, tokenizer.quantizer.codes)
    codes = torch.tensor([[0.0], [1.0], [3.0]])
    goals, logits = torch.tensor([[[0.9]]]), torch.zeros(1, 1, 3)
    targets = torch.tensor([[1]])
    log3 = torch.tensor(3.0).log()

    def weigh(**weights):
        loss = TransformerLoss(model, make_cache(tokenizer), Objective(**{"hard": 0.0} | weights))
        return loss._weigh(logits, targets, goals, codes)[0]

    assert torch.allclose(weigh(hard=1.0), log3)
    assert torch.allclose(weigh(soft=1.0), log3)  # any target, against equal chances
    assert torch.allclose(weigh(expected=1.0), torch.tensor((4 / 3 - 0.9) ** 2))


def test_which_parameters_decay_is_as_in_var():
    entries = json.loads((GOLDEN / "var_d16_state_dict.json").read_text())["state_dict"]
    with torch.device("meta"):
        ladder = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
        model = NextScaleTransformer(TransformerConfig(ladder, 4096, 32, 1024, 16, 16, classes=1001))
    decayed = {id(p) for p in decay_groups(model, 0.05)[0]["params"]}
    official = rename({name: entry.get("weight_decay") for name, entry in entries.items()})
    assert {name: id(p) in decayed for name, p in model.named_parameters()} == official
