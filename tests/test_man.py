"""Multi-scale attention in the trunk: the paper's equations, how far it looks, and that it trains."""

import pytest
import torch
import torch.nn.functional as F

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.baselines.man import KERNELS, AttentionBlock, AttentionTail, GatedSpatialUnit, MultiScaleAttention
from vartutor.data.crops import eval_crops
from vartutor.data.pairs import make_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.profiles import get_profile
from vartutor.train.kinds import train
from vartutor.train.settings import BaselineSettings
from vartutor.weights import load_cnn


def awake(module):
    """As after training: no branch is scaled to nothing."""
    for name, parameter in module.named_parameters():
        if name.endswith("scale"):
            torch.nn.init.normal_(parameter)
    return module.eval().requires_grad_(False)


def dw(x, conv, dilation=1):
    k = conv.weight.shape[-1]
    return F.conv2d(x, conv.weight, conv.bias, padding=(k // 2) * dilation, dilation=dilation, groups=x.shape[1])


def test_the_attention_by_hand():
    torch.manual_seed(0)
    block, x = awake(MultiScaleAttention(6)), torch.randn(2, 6, 9, 11)
    norm = F.layer_norm(x.movedim(1, -1), (6,), block.norm.weight, block.norm.bias, 1e-6).movedim(-1, 1)
    opened = F.conv2d(norm, block.open.weight, block.open.bias)
    parts = []
    for i, (_, _, dilation) in enumerate(KERNELS):
        part, (a, b, c) = opened[:, 2 * i : 2 * i + 2], block.large[i]
        parts.append(dw(part, block.gates[i]) * F.conv2d(dw(dw(part, a), b, dilation), c.weight, c.bias))
    expected = x + block.scale * F.conv2d(opened[:, 6:] * torch.cat(parts, 1), block.close.weight, block.close.bias)
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_the_gated_unit_by_hand():
    torch.manual_seed(0)
    unit, x = awake(GatedSpatialUnit(4)), torch.randn(2, 4, 9, 11)
    norm = F.layer_norm(x.movedim(1, -1), (4,), unit.norm.weight, unit.norm.bias, 1e-6).movedim(-1, 1)
    y, a = F.conv2d(norm, unit.open.weight, unit.open.bias).chunk(2, 1)
    expected = x + unit.scale * F.conv2d(y * dw(a, unit.gate), unit.close.weight, unit.close.bias)
    assert torch.allclose(unit(x), expected, atol=1e-5)


@pytest.mark.parametrize("part", [AttentionBlock, AttentionTail])
def test_how_far_it_looks(part):
    torch.manual_seed(0)
    module, side = awake(part(6)).double(), 2 * part.reach + 9
    x = torch.randn(1, 6, side, side, dtype=torch.float64, requires_grad=True)
    middle = side // 2
    (gradient,) = torch.autograd.grad(module(x)[..., middle, middle].sum(), x)
    seen = gradient.abs().sum((0, 1)).nonzero()
    assert (seen.amin(0) == middle - part.reach).all()
    assert (seen.amax(0) == middle + part.reach).all()


def make(**sizes):
    torch.manual_seed(0)
    return CnnSuperResolver(CnnConfig(**{"width": 6, "blocks": 1, "block": "man"} | sizes))


def test_untrained_it_is_bicubic():
    lr = torch.rand(2, 3, 8, 12) * 2 - 1
    assert all(torch.equal(image, upscale_bicubic(lr)[s]) for s, image in make().restore(lr).items())


def test_blocks_of_a_photo_make_no_difference():
    net = awake(make())
    for head in net.heads.values():
        torch.nn.init.normal_(head.weight, std=0.1)
    lr = torch.rand(1, 3, 110, 70) * 2 - 1
    whole, parts = net.restore(lr, block=1000), net.restore(lr, block=32)
    assert all(torch.allclose(whole[s], parts[s], atol=1e-5) for s in whole)


def test_the_light_model_has_the_papers_size():
    net = make(width=60, blocks=24)
    trunk = sum(p.numel() for part in (net.first, net.blocks, net.last) for p in part.parameters())
    assert 780_000 < trunk < 840_000  # the rest of its 840 K enlarges once, where ours has three heads


def test_wrong_sizes_are_one_line(raises_user_error):
    with raises_user_error("multiple of 3"):
        CnnConfig(8, 1, block="man")
    with raises_user_error("choose one of edsr, man"):
        CnnConfig(8, 1, block="mann")


def test_it_trains_and_is_loaded_again(tmp_path):
    told = {"validate_every": 0, "steps": 40, "lr": 3e-3, "warmup": 0.0}
    run = BaselineSettings.of(get_profile("smoke"), net=CnnConfig(12, 2, block="man"), **told)
    trainer = train("baseline", run, tmp_path, device="cpu")
    assert all(parameter.grad.abs().sum() > 0 for parameter in trainer.model.parameters())
    net = load_cnn(tmp_path)
    assert net.config == run.net
    pairs = make_pairs(eval_crops("val", 64, 1)[0], COURSE, torch.Generator().manual_seed(0))
    plain = upscale_bicubic(pairs.lr)
    images = net.restore(pairs.lr)
    assert (images[1] - pairs.hr[1]).square().mean() < (plain[1] - pairs.hr[1]).square().mean()
