import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import j1

from vartutor.data.kernels import gaussian_kernel, motion_kernel, plateau_kernel, sinc_kernel

ALL = {
    "gaussian": gaussian_kernel(13, 1.5),
    "narrow": gaussian_kernel(7, 0.1),
    "turned": gaussian_kernel(21, 3.0, 0.6, 0.7),
    "peaked": gaussian_kernel(15, 1.5, beta=0.5),
    "flat": gaussian_kernel(15, 2.0, 1.0, -2.0, beta=4.0),
    "plateau": plateau_kernel(21, 3.0, 1.0, 2.5, beta=2.0),
    "wide plateau": plateau_kernel(7, 3.0),
    "sinc": sinc_kernel(21, math.pi / 3),
    "sharp sinc": sinc_kernel(7, math.pi),
    "motion": motion_kernel(21, 12.0, 0.7),
    "single": gaussian_kernel(1, 1.0),
}


@pytest.mark.parametrize("name", ALL)
def test_sums_to_one_and_is_symmetric(name):
    kernel = ALL[name]
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.dtype == torch.float32
    assert kernel.isfinite().all()
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(kernel, kernel.flip(0, 1), atol=1e-7)
    assert kernel.argmax() == kernel.numel() // 2
    if "sinc" not in name:
        assert kernel.min() >= 0


@pytest.mark.parametrize("name", ["gaussian", "peaked", "wide plateau", "sinc", "sharp sinc"])
def test_isotropic_ones_have_all_symmetries(name):
    kernel = ALL[name]
    assert torch.allclose(kernel, kernel.T, atol=1e-7)
    assert torch.allclose(kernel, kernel.flip(0), atol=1e-7)


@pytest.mark.parametrize("sigmas", [(2.0, 2.0), (1.0, 2.0)])
def test_gaussian_is_scipys_blur_of_an_impulse(sigmas):
    impulse = np.zeros((21, 21))
    impulse[10, 10] = 1
    expected = gaussian_filter(impulse, sigmas[::-1], radius=10)  # scipy takes rows first
    assert np.allclose(gaussian_kernel(21, *sigmas), expected, atol=1e-7)


@pytest.mark.parametrize("family", [gaussian_kernel, plateau_kernel])
def test_quarter_turn_swaps_the_axes(family):
    assert torch.allclose(family(15, 3.0, 1.0, math.pi / 2), family(15, 1.0, 3.0), atol=1e-7)
    assert torch.allclose(family(15, 3.0, 1.0, math.pi / 2), family(15, 3.0, 1.0).T, atol=1e-7)
    assert torch.allclose(family(15, 3.0, 1.0, 0.4), family(15, 3.0, 1.0, 0.4 + math.pi), atol=1e-6)
    assert torch.allclose(family(15, 2.0, None, 0.4), family(15, 2.0), atol=1e-7)


def test_theta_turns_from_columns_towards_rows():
    kernel = gaussian_kernel(21, 4.0, 1.0)
    assert kernel[10, 15] > kernel[15, 10]  # long along x
    kernel = gaussian_kernel(21, 4.0, 1.0, math.pi / 4)
    assert kernel[15, 15] > 100 * kernel[15, 5]  # right and down


def test_measured_width_is_sigma():
    kernel = gaussian_kernel(41, 3.0, 1.5).double()
    axis = torch.arange(41, dtype=torch.double) - 20
    assert (kernel.sum(0) * axis**2).sum().sqrt() == pytest.approx(3.0, rel=1e-3)
    assert (kernel.sum(1) * axis**2).sum().sqrt() == pytest.approx(1.5, rel=1e-3)


def test_beta_shapes():
    row = {beta: gaussian_kernel(31, 3.0, beta=beta)[15, 15:] for beta in (0.5, 1.0, 4.0)}
    row = {beta: values / values[0] for beta, values in row.items()}
    assert row[0.5][1] < row[1.0][1] < row[4.0][1]  # sharp peak ... flat top
    assert row[0.5][12] > row[1.0][12] > row[4.0][12]  # long tails ... none
    assert all(values[3] == pytest.approx(math.exp(-0.5), rel=1e-5) for values in row.values())
    # The plateau is half as high at sigma, whatever its shape, and flatter inside with a larger beta.
    row = {beta: plateau_kernel(31, 3.0, beta=beta)[15, 15:] for beta in (1.0, 2.0)}
    row = {beta: values / values[0] for beta, values in row.items()}
    assert all(values[3] == pytest.approx(0.5, rel=1e-5) for values in row.values())
    assert row[2.0][1] > row[1.0][1]
    assert row[2.0][9] < row[1.0][9]
    # Far out the plateau falls as a power, the Gaussian much faster.
    assert row[1.0][12] > 100 * gaussian_kernel(31, 3.0)[15, 27] / gaussian_kernel(31, 3.0)[15, 15]


@pytest.mark.parametrize(("size", "cutoff"), [(7, math.pi), (21, math.pi / 3), (13, 1.7)])
def test_sinc_formula(size, cutoff):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    r = np.hypot(x, y)
    r[size // 2, size // 2] = 1
    expected = cutoff * j1(cutoff * r) / (2 * np.pi * r)
    expected[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    assert np.allclose(sinc_kernel(size, cutoff), expected / expected.sum(), atol=1e-6)


def test_sinc_passes_low_frequencies_only():
    cutoff = 1.5
    response = torch.fft.fft2(sinc_kernel(201, cutoff).double(), s=(512, 512)).abs()
    frequency = 2 * math.pi * torch.fft.fftfreq(512)
    radius = torch.hypot(frequency[:, None], frequency[None])
    assert (response[radius < 0.9 * cutoff] - 1).abs().max() < 0.1
    assert response[radius > 1.1 * cutoff].max() < 0.1


def test_motion_is_a_line_of_the_given_length_and_direction():
    assert torch.allclose(motion_kernel(9, 5.0)[4], torch.tensor([0, 0, 0.2, 0.2, 0.2, 0.2, 0.2, 0, 0]), atol=1e-6)
    assert torch.allclose(motion_kernel(9, 5.0, math.pi / 2), motion_kernel(9, 5.0).T, atol=1e-6)
    kernel, axis = motion_kernel(21, 15.0, 0.5), torch.arange(21.0) - 10
    y, x = (kernel.sum(1) * axis**2).sum(), (kernel.sum(0) * axis**2).sum()
    covariance = (kernel * axis[:, None] * axis).sum()
    assert 0.5 * torch.atan2(2 * covariance, x - y) == pytest.approx(0.5, abs=0.01)
    assert (12 * (x + y)).sqrt() == pytest.approx(15, abs=0.5)
