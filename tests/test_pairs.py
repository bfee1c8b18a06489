import pytest
import torch

from vartutor.data import pairs
from vartutor.data.crops import eval_crops
from vartutor.data.degradation import degrade
from vartutor.data.images import from_uint8, resize, to_uint8
from vartutor.data.pairs import make_pairs, pyramid, upscale_bicubic
from vartutor.data.photos import photos
from vartutor.data.presets import BICUBIC, COURSE, PRESETS, VARSR, WIDE
from vartutor.metrics import psnr


def baseline(preset):
    """Mean RGB PSNR of bicubic enlargement at every scale, on the test split."""
    fixed = pairs.eval_pairs(preset)
    enlarged = upscale_bicubic(fixed.lr)
    return {s: psnr(enlarged[s], fixed.hr[s], color="rgb").mean().item() for s in fixed.hr}


def test_make_pairs():
    x, _ = eval_crops("val", per_photo=1)
    made = make_pairs(x, COURSE, torch.Generator().manual_seed(3))
    assert made.lr.shape == (12, 3, 16, 16)
    assert {s: tuple(hr.shape) for s, hr in made.hr.items()} == {s: (12, 3, 16 * s, 16 * s) for s in (1, 2, 4)}
    assert torch.equal(made.lr, degrade(x, COURSE, torch.Generator().manual_seed(3)))
    assert torch.equal(made.lr, make_pairs(x, COURSE, torch.Generator().manual_seed(3)).lr)
    assert made.files == ()


def test_pyramid_values():
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    levels = pyramid(x)
    assert levels[4] is x
    assert torch.equal(levels[2], resize(x, (32, 48)).clamp(-1, 1))
    assert torch.equal(levels[1], resize(x, (16, 24)).clamp(-1, 1))
    assert list(pyramid(x, (1, 8))) == [1, 8]
    assert pyramid(x, (1, 8))[1].shape == (2, 3, 8, 12)
    flat = pyramid(torch.full((1, 3, 64, 64), 0.4))
    assert all(torch.allclose(level, torch.tensor(0.4), atol=1e-6) for level in flat.values())
    checkers = torch.ones(1, 3, 64, 64)
    checkers[..., 32:] = -1  # overshoots at the edge if it is not clamped
    assert all(level.abs().max() <= 1 for level in pyramid(checkers).values())


def test_levels_lie_upon_each_other():
    """A pixel of the small photo is the middle of its block in the large one: no shift by half a pixel."""
    ramp = torch.linspace(-0.8, 0.8, 64).expand(1, 3, 64, 64)
    for s, level in pyramid(ramp).items():
        blocks = ramp.unfold(3, 4 // s, 4 // s).mean(-1)[..., : 16 * s, :]
        assert torch.allclose(level[..., 3:-3], blocks[..., 3:-3], atol=1e-5)


def test_upscale_bicubic():
    lr = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    enlarged = upscale_bicubic(lr)
    assert torch.allclose(enlarged[1], lr, atol=1e-6)
    assert enlarged[4].shape == (2, 3, 64, 48)
    assert enlarged[4].abs().max() <= 1
    assert torch.equal(enlarged[2], resize(lr, (32, 24)).clamp(-1, 1))
    assert list(upscale_bicubic(lr, (3,))) == [3]


def test_test_pairs_are_always_the_same():
    first, again = pairs.eval_pairs(COURSE), pairs.eval_pairs(COURSE)
    assert torch.equal(first.lr, again.lr)
    assert first.files == again.files == tuple(photo.file for photo in photos("test") for _ in range(3))
    assert torch.equal(first.hr[4], eval_crops()[0])
    # Crop i has the seed i, so that a part of them can be made again alone.
    assert torch.equal(degrade(first.hr[4][7:9], COURSE, seeds=[7, 8]), first.lr[7:9])
    other = pairs.eval_pairs(COURSE, seed=1)
    assert torch.equal(other.hr[4], first.hr[4])
    assert not torch.equal(other.lr, first.lr)
    assert torch.equal(degrade(first.hr[4][7:8], COURSE, seeds=[1000007]), other.lr[7:8])


def test_test_pairs_of_other_sizes():
    small = pairs.eval_pairs(BICUBIC, "val", size=32, per_photo=1)
    assert small.lr.shape == (12, 3, 8, 8)
    assert small.hr[2].shape == (12, 3, 16, 16)


def test_bicubic_pairs_are_the_pyramid():
    fixed = pairs.eval_pairs(BICUBIC)
    assert torch.equal(fixed.lr, from_uint8(to_uint8(fixed.hr[1])))


@pytest.mark.parametrize(("scale", "expected"), [(1, 28.4), (2, 25.9), (4, 24.4)])
def test_the_line_to_beat(scale, expected):
    assert baseline(COURSE)[scale] == pytest.approx(expected, abs=0.7)


def test_presets_are_ordered_by_difficulty():
    easy, middle, hard, wide = (baseline(preset) for preset in (BICUBIC, COURSE, VARSR, WIDE))
    assert list(PRESETS.values()) == [BICUBIC, COURSE, VARSR, WIDE]
    for s in (1, 2, 4):
        assert easy[s] > middle[s] + 1
        assert middle[s] > hard[s] + 1
        assert easy[s] > wide[s] + 1  # from nearly clean to worse than VARSR
