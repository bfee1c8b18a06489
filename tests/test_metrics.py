import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vartutor.data.degradation import blur, gaussian_noise, jpeg
from vartutor.data.images import from_uint8, to_uint8
from vartutor.data.kernels import gaussian_kernel
from vartutor.data.photos import find_photo
from vartutor.metrics import Interval, bootstrap, gmsd, luma, psnr, ssim

GOLDEN = json.loads((Path(__file__).parent / "golden" / "piq.json").read_text(encoding="utf-8"))
METRICS = {"psnr": psnr, "ssim": ssim, "gmsd": gmsd}


def distort(x, kind):
    if kind == "blur":
        y = blur(x, gaussian_kernel(13, 1.6))
    elif kind == "noise":
        y = gaussian_noise(x, 12, generator=torch.Generator().manual_seed(7))
    else:
        y = jpeg(x, 30)
    return from_uint8(to_uint8(y))


def unit(x):
    """(1, 3, H, W) in [-1, 1] -> (H, W, 3) in [0, 1], in double precision."""
    return (x[0].double().permute(1, 2, 0).numpy() + 1) / 2


# --- against scikit-image --------------------------------------------------------------------------


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("kind", ["blur", "noise", "jpeg"])
@pytest.mark.parametrize("size", [(64, 64), (33, 190), (512, 500)])
def test_psnr_and_ssim_on_luma_are_skimages(lemur, size, kind, border):
    x = lemur[:, :, : size[0], -size[1] :]
    y = distort(x, kind)
    inner = slice(border, -border or None)
    a, b = (rgb2ycbcr(unit(z))[inner, inner, 0] for z in (x, y))
    assert psnr(x, y, border=border).item() == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-4)
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim(x, y, border=border).item() == pytest.approx(structural_similarity(a, b, **options), abs=1e-4)


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("kind", ["blur", "noise", "jpeg"])
def test_psnr_and_ssim_on_rgb_are_skimages(owl, kind, border):
    x = owl[:, :, :100, :120]
    y = distort(x, kind)
    inner = slice(border, -border or None)
    a, b = (unit(z)[inner, inner] * 255 for z in (x, y))
    ours = psnr(x, y, color="rgb", border=border).item()
    assert ours == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-4)
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(a, b, channel_axis=2, **options)
    assert ssim(x, y, color="rgb", border=border).item() == pytest.approx(expected, abs=1e-4)


def test_luma_is_skimages(owl):
    assert np.allclose(luma(owl)[0, 0].numpy(), rgb2ycbcr(unit(owl))[..., 0], atol=1e-3)
    ends = luma(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(-1, 3, 1, 1)).flatten().tolist()
    assert ends == pytest.approx([16, 235], abs=1e-4)


# --- against torchmetrics --------------------------------------------------------------------------


def test_ssim_is_torchmetrics(lemur):
    """torchmetrics 1.9 mirrors the image at its borders and takes the mean over all positions; the inner ones agree."""
    image = pytest.importorskip("torchmetrics.functional.image")
    x = lemur[:, :, :208, :256]
    options = {"data_range": 255.0, "reduction": "none"}
    for kind in ("blur", "noise", "jpeg"):
        y = distort(x, kind)
        for color, a, b in (("y", luma(x), luma(y)), ("rgb", (x + 1) * 127.5, (y + 1) * 127.5)):
            _, full = image.structural_similarity_index_measure(a, b, sigma=1.5, return_full_image=True, **options)
            assert ssim(x, y, color=color).item() == pytest.approx(full[..., 5:-5, 5:-5].mean().item(), abs=1e-4)


# --- against piq -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['photo']}-{case['distortion']}")
def test_gmsd_and_ssim_are_piqs(case):
    x = find_photo(case["photo"]).load()[None, :, : case["height"], : case["width"]]
    y = distort(x, case["distortion"])
    for color in ("y", "rgb"):
        assert gmsd(x, y, color=color).item() == pytest.approx(case[f"gmsd_{color}"], abs=1e-4)
    assert ssim(x, y).item() == pytest.approx(case["ssim_y"], abs=1e-4)


# --- properties ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("color", ["y", "rgb"])
def test_identical_images(lemur, name, color):
    x = lemur[:, :, :192, :192]
    perfect = {"psnr": math.inf, "gmsd": 0.0}.get(name, 1.0)
    assert METRICS[name](x, x.clone(), color=color).item() == pytest.approx(perfect, abs=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_batches_symmetry_and_order(lemur, owl, name):
    metric = METRICS[name]
    x = torch.cat([lemur[:, :, :192, :192], owl[:, :, :192, :192]])
    worse = [blur(x, gaussian_kernel(21, sigma)) for sigma in (0.6, 1.2, 2.4)]
    values = torch.stack([metric(x, y) for y in worse])
    assert values.shape == (3, 2)
    assert torch.allclose(metric(worse[0][1:], x[1:]), values[0, 1:], atol=1e-5)
    steps = values.diff(dim=0)
    assert (steps > 0).all() if name == "gmsd" else (steps < 0).all()


@pytest.mark.parametrize("name", METRICS)
def test_gradients_are_finite(name):
    noise = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0)) * 2 - 1
    flat = torch.zeros_like(noise)  # zero gradients and variances everywhere
    for x, y in ((noise, flat), (flat, noise), (flat, flat + 0.1), (noise, -noise)):
        x = x.clone().requires_grad_()
        value = METRICS[name](x, y)
        assert value.isfinite().all()
        value.sum().backward()
        assert x.grad.isfinite().all()


def test_known_psnr():
    x = torch.zeros(1, 3, 8, 8)
    assert psnr(x, x + 2 / 255, color="rgb").item() == pytest.approx(20 * math.log10(255), abs=1e-3)
    # Gray levels span 219 of 255 steps in luma.
    assert psnr(x, x + 2 / 255).item() == pytest.approx(20 * math.log10(255 * 255 / 219), abs=1e-3)


def test_border_is_left_out():
    x = torch.zeros(1, 3, 32, 32)
    y = x.clone()
    y[..., :4, :] = 1
    assert psnr(x, y, border=4).isinf().all()
    assert psnr(x, y, border=3).isfinite().all()


@pytest.mark.parametrize("name", METRICS)
def test_mistakes_give_one_line(name, raises_user_error):
    metric, x = METRICS[name], torch.zeros(1, 3, 192, 192)
    for y in (torch.zeros(1, 3, 192, 190), torch.zeros(2, 3, 192, 192)):
        with raises_user_error("(1, 3, 192, 192)", tuple(y.shape)):
            metric(x, y)
    for z in (x[0], x[:, :1]):
        with raises_user_error("(B, 3, H, W)"):
            metric(z, z)
    for bad in (to_uint8(x), x + 255, x * torch.nan, x / 0):
        for pair in ((bad, x), (x, bad)):
            with raises_user_error("an image"):
                metric(*pair)
    with raises_user_error("'luma'", "'y' or 'rgb'"):
        metric(x, x, color="luma")
    for border in (96, 200, -1) if name != "gmsd" else ():  # which leaves out none
        with raises_user_error(f"border of {border}", "192 x 192"):
            metric(x, x, border=border)


def test_too_small_images_give_one_line(raises_user_error):
    x = torch.zeros(1, 3, 200, 14)
    assert ssim(x, x, border=1).item() == pytest.approx(1)
    with raises_user_error("11 x 11", "10 x 196"):
        ssim(x, x, border=2)


# --- bootstrap -------------------------------------------------------------------------------------


def test_intervals_cover_the_true_mean():
    rng = np.random.default_rng(0)
    intervals = [bootstrap(rng.normal(30, 4, 40), resamples=500, seed=k) for k in range(300)]
    covered = np.mean([interval.low <= 30 <= interval.high for interval in intervals])
    assert 0.90 <= covered <= 0.99
    assert all(interval.low <= interval.mean <= interval.high for interval in intervals)


def test_groups_widen_the_interval_of_correlated_values():
    rng = np.random.default_rng(1)
    photos = np.repeat(np.arange(30), 3)
    covered, naive, ratios = [], [], []
    for k in range(200):
        values = rng.normal(30, 4, 30)[photos] + rng.normal(0, 1, 90)
        grouped, plain = bootstrap(values, photos, resamples=400, seed=k), bootstrap(values, resamples=400, seed=k)
        assert grouped.mean == pytest.approx(plain.mean)
        covered.append(grouped.low <= 30 <= grouped.high)
        naive.append(plain.low <= 30 <= plain.high)
        ratios.append((grouped.high - grouped.low) / (plain.high - plain.low))
    assert 0.90 <= np.mean(covered) <= 0.99
    assert np.mean(naive) < 0.85
    assert np.median(ratios) == pytest.approx(3**0.5, rel=0.1)


def test_groups_of_any_kind():
    values = [1.0, 3.0, 10.0, 20.0]
    expected = bootstrap([2.0, 10.0, 20.0])
    for groups in (
        ["a.jpg", "a.jpg", "b.jpg", "c.jpg"],
        [("a.jpg", 0), ("a.jpg", 0), ("a.jpg", 1), ("b.jpg", 0)],
        torch.tensor([7, 7, 2, 5]),
        np.array([0, 0, 1, 2]),
    ):
        assert bootstrap(values, groups) == expected
    assert bootstrap(values, ["a.jpg"] * 4) == Interval(8.5, 8.5, 8.5)


def test_bootstrap_is_seeded():
    values = np.random.default_rng(2).normal(size=50)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    bootstrap(values)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_level_and_kinds_of_values():
    values = torch.randn(60, generator=torch.Generator().manual_seed(0))
    narrow, wide = bootstrap(values, level=0.5), bootstrap(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap(values.tolist()).low == pytest.approx(bootstrap(values).low)
    assert bootstrap(values.clone().requires_grad_()) == bootstrap(values)
    assert bootstrap([3.25]) == Interval(3.25, 3.25, 3.25)
    assert str(Interval(28.416, 27.0, 29.999)) == "28.42 [27.00, 30.00]"


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([], None),
        ([[1.0]], None),
        ([1.0, math.inf], None),
        ([math.nan], None),
        ([1.0, 2.0], ["a"]),
        ([1.0], ["a", "b"]),
    ],
)
def test_bootstrap_mistakes(values, groups, raises_user_error):
    with raises_user_error("bootstrap"):
        bootstrap(values, groups)
