"""Colour fixes: what they change, what they leave, and that blocks add up to the whole."""

import pytest
import torch

from vartutor.addons.color import FIXES, MeanFix, WaveletFix, low_frequencies
from vartutor.data.images import from_pil, to_pil
from vartutor.superres import find_fix


def noise(seed=0, size=(64, 48)):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6


def test_smoothing_keeps_constants_and_removes_stripes():
    assert torch.allclose(low_frequencies(torch.full((3, 20, 9), 0.3), 5), torch.full((3, 20, 9), 0.3))
    stripes = torch.ones(1, 32, 32)
    stripes[:, :, ::2] = -1
    assert low_frequencies(stripes, 1)[..., 1:-1].abs().max() < 1e-6  # ¼ ½ ¼ of + - + is nothing


@pytest.mark.parametrize("s", [1, 2, 4])
def test_a_wavelet_fix_reaches_no_farther_than_it_says(s):
    point = torch.zeros(3, 161, 161)
    point[:, 80, 80] = 1
    changed = (WaveletFix(s).local(torch.zeros_like(point), point).abs().sum(0) > 0).nonzero() - 80
    assert 2 * s < changed.abs().max() <= WaveletFix.margin * s


def test_a_wavelet_fix_takes_colours_and_keeps_details():
    image, tint = noise(), torch.tensor([0.2, -0.1, 0.05])[:, None, None]
    assert torch.allclose(WaveletFix(4).local(image + tint, image), image, atol=1e-6)
    fixed = WaveletFix(2).local(image, torch.zeros_like(image))
    details = image - low_frequencies(image, 4)
    assert torch.allclose(fixed, details, atol=1e-6)


def test_a_mean_fix_gathers_blocks_and_moves_the_whole():
    image, photo = noise(1, (600, 16)), noise(2, (600, 16)) * 0.5 + 0.1
    fix, out = MeanFix(1), to_pil(image)
    for rows in (slice(0, 100), slice(100, 600)):
        fix.observe(image[:, rows], photo[:, rows])
    fix.whole(out)
    assert (from_pil(out) - photo).mean((1, 2)).abs().max() <= 0.6 / 127.5
    assert torch.allclose(from_pil(out) - image, (photo - image).mean((1, 2))[:, None, None], atol=1.1 / 127.5)


def test_names(raises_user_error):
    image = noise()
    assert find_fix("none")(4).local(image, noise(1)) is image
    assert set(FIXES) == {"none", "mean", "wavelet"}
    with raises_user_error("unknown colour fix 'adain'", "none, mean, wavelet"):
        find_fix("adain")
