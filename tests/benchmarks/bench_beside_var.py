"""VAR-d16 at 256 px beside its authors' code, same weights, fp32, batch 1, rounds in turn on a quiet machine:

git clone https://github.com/FoundationVision/VAR && VAR=VAR python -m pytest tests/benchmarks/bench_beside_var.py -s
"""

import os
import statistics
import sys
import time
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from vartutor.transformer.condition import Condition
from vartutor.transformer.generate import iterate
from vartutor.weights.official_tokenizer import load_vqvae
from vartutor.weights.official_transformer import load_var

THEIRS = os.environ.get("VAR")
pytestmark = pytest.mark.skipif(not THEIRS, reason="give the folder of VAR's code: VAR=FOLDER")


@pytest.fixture(scope="module")
def models():
    """Their transformer, ours with its weights, and a tokenizer for both, whose decoder is left out."""
    hub = ModuleType("huggingface_hub")  # which they import for a base class only
    hub.PyTorchModelHubMixin = type("PyTorchModelHubMixin", (), {"__init_subclass__": lambda cls, **_: None})
    sys.modules.setdefault("huggingface_hub", hub)
    sys.path.insert(0, THEIRS)
    from models import build_vae_var

    torch.manual_seed(0)
    vae, theirs = build_vae_var("cpu", depth=16)
    for parameter in vae.parameters():  # they leave it without numbers
        torch.nn.init.normal_(parameter, std=0.02).requires_grad_(False)
    theirs.cond_drop_rate, vae.fhat_to_img = 0.0, lambda f_hat: f_hat
    ours = load_var(theirs.state_dict(), patch_nums=theirs.patch_nums).requires_grad_(True)
    tokenizer = load_vqvae(vae.state_dict(), patch_nums=theirs.patch_nums).requires_grad_(False)
    return theirs.eval(), ours.eval(), tokenizer.eval()


@pytest.fixture(scope="module")
def inputs():
    return torch.tensor([7]), torch.randn(1, 679, 32), torch.randint(4096, (680,))


def race(title: str, theirs, ours, rounds: int) -> None:
    seconds = {theirs: [], ours: []}
    for number in range(rounds + 1):  # the first one warms up
        for call, times in seconds.items():
            begin = time.perf_counter()
            call()
            times += [time.perf_counter() - begin] * (number > 0)
    a, b = map(statistics.median, seconds.values())
    print(f"\n{title}: theirs {a:.2f} s, ours {b:.2f} s, ratio {a / b:.2f}")


def test_forward(models, inputs):
    theirs, ours, _ = models
    label, x, _ = inputs
    with torch.no_grad():
        calls = lambda: theirs(label, x), lambda: ours(Condition(ours.class_emb(label)), x)
        assert torch.allclose(calls[0](), calls[1](), atol=1e-5)
        race("forward", *calls, rounds=9)


def test_forward_and_backward(models, inputs):
    theirs, ours, _ = models
    label, x, targets = inputs

    def step(model, logits):
        model.zero_grad(set_to_none=True)
        F.cross_entropy(logits()[0], targets).backward()

    calls = (theirs, lambda: theirs(label, x)), (ours, lambda: ours(Condition(ours.class_emb(label)), x))
    race("forward and backward", *(lambda call=call: step(*call) for call in calls), rounds=5)


@torch.no_grad()
def test_guided_generation(models, inputs):
    theirs, ours, tokenizer = models
    options = {"top_k": 900, "top_p": 0.96}
    condition, null = (Condition(ours.class_emb(label)) for label in (inputs[0], torch.tensor([1000])))
    race(
        "guided generation",
        lambda: theirs.autoregressive_infer_cfg(1, 7, g_seed=0, cfg=1.5, **options),
        lambda: list(iterate(ours, tokenizer, condition, null=null, guidance=1.5, **options)),
        rounds=5,
    )
