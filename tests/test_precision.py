"""What may be in 16 bits, what may not, and what a GPU would do twice."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from vartutor.data.crops import eval_crops
from vartutor.data.presets import COURSE
from vartutor.perceptual import PerceptualDistance
from vartutor.plan.autocast import cuda_rules
from vartutor.profiles import get_profile, toy
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.sizes import make_transformer
from vartutor.train.source import Batch
from vartutor.train.tokenizer import Losses, TokenizerLoss
from vartutor.train.transformer import Objective, TransformerLoss
from vartutor.transformer.attention import SelfAttention, block_causal
from vartutor.weights import load_tokenizer


@pytest.fixture(scope="module")
def hit():
    return load_tokenizer("hit")


@pytest.fixture(scope="module")
def photos():
    return eval_crops("test", per_photo=1)[0]


class Tf32(torch.autograd.Function):
    """What a GPU's convolutions read: float32 with ten bits of mantissa, any shape."""

    @staticmethod
    def forward(context, x):
        return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    @staticmethod
    def backward(context, gradient):
        return gradient


@pytest.fixture
def tf32(monkeypatch):
    """``tf32()``: from now on convolutions round as a GPU does unless it is told otherwise."""
    original = nn.Conv2d._conv_forward

    def rounded(conv, x, weight, bias):
        return original(conv, Tf32.apply(x), Tf32.apply(weight), bias)

    return lambda: monkeypatch.setattr(nn.Conv2d, "_conv_forward", rounded)


@torch.no_grad()
def test_tokens_would_change_in_16_bits_so_the_frozen_encoder_keeps_32(hit, photos, tf32):
    """The bar is 99 % of equal tokens: bfloat16 has 79 %, float16 98 %, a GPU's 19-bit convolutions 97 %."""
    exact = torch.cat(hit.tokenize(photos), 1)

    def same(features):
        return (torch.cat(hit.quantizer.tokenize([f.float() for f in features]), 1) == exact).float().mean()

    shares = {}
    for kind in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", kind):
            shares[kind] = same(hit.encode(photos))
    tf32()
    assert 0.7 < shares[torch.bfloat16] < 0.9
    assert 0.95 < shares[torch.float16] < 0.99
    assert same(hit.encode(photos)) > 0.95


@pytest.mark.parametrize("encoded", [False, True])
def test_a_run_in_bfloat16_learns_the_tokens_of_float32(hit, photos, encoded):
    model = make_transformer(get_profile("smoke"), hit, encoded=encoded)
    batch = Batch(photos[:4], torch.arange(4), COURSE)
    narrow, exact = (TransformerLoss(model, hit, Objective(), bf16).prepare(batch) for bf16 in (True, False))
    for a, b in zip((*narrow.clean, *narrow.degraded), (*exact.clean, *exact.degraded), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_the_perceptual_gradient_would_turn_in_16_bits_so_it_keeps_32(hit, photos, tf32):
    ruler, made = PerceptualDistance(), hit.reconstruct(photos)

    def gradient(kind=None):
        x = made.clone().requires_grad_()
        with torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None):
            value = ruler(x, photos).mean()
        return torch.autograd.grad(value, x)[0].flatten()

    exact, narrow = gradient(), gradient(torch.bfloat16)
    assert F.cosine_similarity(exact, narrow, 0) < 0.9
    tf32()
    assert F.cosine_similarity(exact, gradient(), 0) > 0.95


def test_a_tokenizers_run_in_bfloat16_measures_its_pictures_in_float32(hit, photos, monkeypatch):
    seen = []
    original = PerceptualDistance.forward

    def watched(ruler, x, y):
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        return original(ruler, x, y)

    monkeypatch.setattr(PerceptualDistance, "forward", watched)
    loss = TokenizerLoss(copy.deepcopy(hit), Losses(perceptual=1.0), bf16=True)
    loss(Batch(photos[:2], torch.arange(2), COURSE), moment=type("M", (), {"logged": False, "progress": 0.0}))
    assert seen == [(torch.float32, False)] * 3


class Casts(TorchDispatchMode):
    """Counts changes of type."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        casts = function in (torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype)
        self.count += casts and made.dtype != args[0].dtype
        return made


def test_queries_and_keys_are_cast_once_whatever_the_number_of_maps():
    """By a GPU's rules of autocast, under which norms leave float32; the numbers stay within bfloat16's own error."""
    torch.manual_seed(0)
    attention, x = SelfAttention(64, 2), torch.randn(2, 86, 64)
    counts = {}
    with torch.no_grad(), cuda_rules():
        exact = attention(x, block_causal((1, 4, 16, 65)))
        for lengths in ((86,), (1, 4, 16, 65), (1, 1, 2, 4, 8, 10, 20, 40)):
            with torch.autocast("cpu", torch.bfloat16), Casts() as casts:
                narrow = attention(x, block_causal(lengths))
            counts[len(lengths)] = casts.count
            if len(lengths) == 4:
                assert (narrow - exact).norm() < 0.01 * exact.norm()
    assert len(set(counts.values())) == 1


@torch.no_grad()
def test_an_encoder_compiles_once_per_image_size():
    counter, model = CompileCounter(), build_tokenizer(TokenizerConfig.of(toy(get_profile("gpu")))).eval()
    model.encoder.compile(dynamic=False, backend=counter)  # as the trainer compiles
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    for _ in range(3):
        model.encode(x)
    assert counter.frame_count == len(model.scales)
    torch._dynamo.reset()


def test_the_official_autoencoder_holds_channels_side_by_side():
    model = build_tokenizer(TokenizerConfig.of(toy(get_profile("gpu")))).eval()
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    kernels = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    with torch.no_grad():
        ours = model.encoder(x)
        theirs = model.encoder.to(memory_format=torch.contiguous_format)(x)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
