from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vartutor.data.crops import eval_crops
from vartutor.data.degradation import blur, gaussian_noise, jpeg
from vartutor.data.kernels import gaussian_kernel
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance, perceptual_distance

GOLDEN = Path(__file__).parent / "golden" / "efficientnet_lite0.safetensors"


@pytest.fixture(scope="module")
def distance():
    return PerceptualDistance()


@pytest.fixture(scope="module")
def crops():
    return eval_crops("val", size=96, per_photo=1)[0]


def seeded():
    return torch.Generator().manual_seed(0)


def test_features_are_those_of_the_published_network(distance):
    x = torch.rand(1, 3, 224, 224, generator=seeded()) * 2 - 1
    golden = load_file(GOLDEN)
    maps = distance.features(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14)]
    for k, features in enumerate(maps):
        step = features.shape[-1] // 7
        sampled, expected = features[0, :, ::step, ::step], golden[f"map_{k}"]
        # The course ships fp16 weights, the golden values come from fp32 ones.
        assert (sampled - expected).abs().max() < 0.3
        assert (sampled - expected).norm() / expected.norm() < 1e-2


def test_zero_for_equal_images_and_symmetric(crops):
    assert perceptual_distance(crops, crops.clone()).tolist() == [0.0] * 12
    x, y = crops, crops.flip(0)
    assert torch.allclose(perceptual_distance(x, y), perceptual_distance(y, x), atol=1e-6)
    assert (perceptual_distance(x, y) > 0.2).all()
    assert torch.allclose(perceptual_distance(x[3:4], y[3:4]), perceptual_distance(x, y)[3:4], atol=1e-5)


DISTORTIONS = {
    "blur": ((0.6, 1.0, 1.6, 2.5), lambda x, sigma: blur(x, gaussian_kernel(21, sigma))),
    "noise": ((3, 8, 20, 40), lambda x, sigma: gaussian_noise(x, sigma, generator=seeded()).clamp(-1, 1)),
    "jpeg": ((90, 60, 30, 10), jpeg),
}


@pytest.mark.parametrize("name", DISTORTIONS)
def test_grows_with_the_distortion(crops, name):
    strengths, distort = DISTORTIONS[name]
    values = torch.stack([perceptual_distance(crops, distort(crops, strength)) for strength in strengths])
    means = values.mean(1)
    assert (means.diff() > 0).all()
    assert (values.diff(dim=0) > 0).float().mean() > 0.9  # nearly always in single images too
    assert means[0] > 0.001


def test_a_shift_is_nearer_than_a_blur_of_no_lower_psnr(crops):
    x, shifted = crops[..., :, :-1], crops[..., :, 1:]
    target = psnr(x, shifted, color="rgb")
    # The strongest blur that still has at least the PSNR of the shift, image by image.
    blurred = x.clone()
    for sigma in torch.arange(0.3, 4.0, 0.1).tolist():
        candidate = blur(x, gaussian_kernel(21, sigma))
        good = psnr(x, candidate, color="rgb") >= target
        blurred[good] = candidate[good]
    assert (psnr(x, blurred, color="rgb") >= target).all()
    near, far = perceptual_distance(x, shifted), perceptual_distance(x, blurred)
    assert near.mean() < far.mean()
    assert (near < far).float().mean() > 0.8


def test_is_a_training_loss(distance, crops):
    x = crops[:2, :, :32, :32].clone().requires_grad_()
    value = distance(x, crops[2:4, :, :32, :32])
    value.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    with torch.no_grad():
        moved = x - 0.005 * x.grad / x.grad.abs().max()
        assert (distance(moved, crops[2:4, :, :32, :32]) < value).all()
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    assert not distance.training
    equal = crops[:1].clone().requires_grad_()
    distance(equal, crops[:1]).sum().backward()
    assert equal.grad.isfinite().all()


def test_evaluation_keeps_no_gradient(crops):
    assert not perceptual_distance(crops[:1].clone().requires_grad_(), crops[1:2]).requires_grad


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (1, 1)])
def test_small_images(size):
    x = torch.rand(2, 3, *size, generator=seeded()) * 2 - 1
    value = perceptual_distance(x, -x)
    assert value.shape == (2,)
    assert value.isfinite().all()
    assert (value > 0).all()
    flat = torch.zeros(2, 3, *size)
    assert perceptual_distance(flat, flat).eq(0).all()
