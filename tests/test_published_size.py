"""The published model of 310 M on a CPU: minutes and gigabytes, so only with -m slow."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vartutor.plan.steps import planned_tokenizer
from vartutor.profiles import get_profile
from vartutor.train.sizes import make_config
from vartutor.train.transformer import decay_groups
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights.official_transformer import init_from_var

pytestmark = pytest.mark.slow
GPU = get_profile("gpu")
GOLDEN = Path(__file__).parent / "golden"


def build(profile, codes):
    config = make_config(profile, planned_tokenizer(profile))
    return PhotoTransformer(config, codes, prior=False, patch=profile.transformer.patch).train()


def loss_of(model, photo, inputs, targets):
    logits = model.body(model.condition(photo, ()), inputs)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def batch(model, photos, side):
    config = model.config
    inputs = torch.randn(photos, config.tokens - 1, config.channels)
    return torch.rand(photos, 3, side, side) * 2 - 1, inputs, torch.randint(config.codes, (photos, config.tokens))


def resident() -> float:
    """Most gigabytes that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def test_one_step_at_512_pixels():
    torch.manual_seed(0)
    model = build(GPU, torch.randn(GPU.codes, GPU.channels))
    assert model.config.tokens == 2130
    assert not model.config.checkpointing  # the plan switches it on where it must
    loss = loss_of(model, *batch(model, 1, GPU.lr_size))
    loss.backward()
    weights = dict(model.named_parameters())
    assert 310e6 < sum(p.numel() for p in weights.values()) < 313e6
    assert loss.item() == pytest.approx(torch.tensor(float(GPU.codes)).log().item(), abs=0.5)  # it knows nothing yet
    assert all(p.grad is not None and p.grad.isfinite().all() for p in weights.values())
    print(f"\n{resident():.1f} GB at the fullest moment of this process")
    assert resident() < 20


def test_official_weights_start_and_three_steps_lower_the_loss():
    torch.manual_seed(0)
    entries = json.loads((GOLDEN / "var_d16_state_dict.json").read_text())["state_dict"]
    official = {name: torch.randn(entry["shape"]) * 0.02 for name, entry in entries.items()}
    short = replace(GPU, image_size=128, groups=((1, 2), (4,), (8,)))  # the same weights, few tokens
    model = build(short, torch.randn(GPU.codes, GPU.channels))
    start = init_from_var(model, official)
    assert torch.equal(model.body.blocks[3].fc1.weight, official["blocks.3.ffn.fc1.weight"])
    assert all(name.startswith("prefix.") for name in start.new)
    del official
    given = batch(model, 1, short.lr_size)
    optimizer = torch.optim.AdamW(decay_groups(model, 0.05), lr=3e-4)
    losses = []
    for _ in range(4):
        loss = loss_of(model, *given)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[3] < losses[2] < losses[1] < losses[0]
