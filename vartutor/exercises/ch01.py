"""Exercises of chapter 01."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from vartutor import metrics
from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch01")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def psnr(x, y):
    mse = (x - y).square().mean()
    return 10 * torch.log10(2**2 / mse)


@sheet.exercise(1, psnr)
def _test_psnr(answer) -> None:
    """The peak is the largest difference two pixels can have. In [-1, 1] that is 2."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    y = x + 0.1 * torch.randn(x.shape, generator=generator)
    got, right = float(answer(x, y)), float(psnr(x, y))
    mse = float((x - y).square().mean())
    mistakes = {
        float(metrics.psnr(x, y)): "that is luma alone; this exercise averages over all three colours",
        10 * math.log10(1 / mse): "6.02 dB low: the range of [-1, 1] is 2, so the peak is 2, not 1",
        10 * math.log10(255**2 / mse): "these images span 2, not 255: the peak must be in the images' own units",
        10 * math.log(4 / mse): "that is the natural logarithm; decibels use base 10",
        10 * math.log10(2 / math.sqrt(mse)): "half the decibels: use 10 log10 of the mean squared error, or 20 log10 "
        "of its root",
        20 * math.log10(4 / mse): "twice the decibels: 20 log10 goes with the root of the mean squared error",
        10 * math.log10(mse / 4): "the fraction is upside down: a smaller error must give more decibels",
    }
    for wrong, diagnosis in mistakes.items():
        require(abs(got - wrong) > 1e-3, diagnosis)
    require(abs(got - right) < 1e-3, f"expected {right:.3f} dB, got {got:.3f}")


def same_lr(x, pattern):
    def down(z):
        return F.avg_pool2d(z, 4)

    def up(z):
        return F.interpolate(z, scale_factor=4, mode="nearest")

    return x + pattern - up(down(pattern))


@sheet.exercise(2, same_lr)
def _test_same_lr(answer) -> None:
    """Let down be avg_pool2d(., 4) and up be F.interpolate(scale_factor=4, mode='nearest'). What is down(pattern -
    up(down(pattern)))?"""
    generator = torch.Generator().manual_seed(0)
    x, pattern = (torch.rand(1, 3, 32, 32, generator=generator) for _ in range(2))
    got = answer(x, pattern)
    require(getattr(got, "shape", None) == x.shape, f"return a photo of shape {tuple(x.shape)}")
    require(not torch.allclose(got, x, atol=1e-4), "that is the photo itself: the pattern left no trace")
    shift = (F.avg_pool2d(got, 4) - F.avg_pool2d(x, 4)).abs().max()
    blocks = F.interpolate(F.avg_pool2d(pattern, 4), scale_factor=4, mode="nearest")
    require(
        not torch.allclose(got, x + blocks, atol=1e-4),
        "you added the part that the shrinking sees; add the part that it does not see",
    )
    require(
        not torch.allclose(got, x + pattern, atol=1e-4),
        "the whole pattern changes the small photo: take out of it what survives the shrinking",
    )
    require(
        not torch.allclose(got, (x + pattern - blocks).clamp(-1, 1), atol=1e-4),
        "do not clamp here: clamping changes the averages of the blocks",
    )
    require(
        shift < 1e-4,
        f"the small photos differ by up to {shift:.3f}; shrink with avg_pool2d(., 4), "
        "and enlarge with mode='nearest', so that shrinking undoes enlarging",
    )
    require(
        torch.allclose(got - x, pattern - blocks, atol=1e-4), "keep all of the pattern that the shrinking does not see"
    )


def photo_interval(values, photos, seed=0):
    values, photos = np.asarray(values), np.asarray(photos)
    means = np.array([values[photos == name].mean() for name in np.unique(photos)])
    rng = np.random.default_rng(seed)
    resampled = [rng.choice(means, len(means)).mean() for _ in range(2000)]
    return tuple(np.quantile(resampled, [0.025, 0.975]))


@sheet.exercise(3, photo_interval)
def _test_photo_interval(answer) -> None:
    """Average the values of each photo. Draw as many photo means as there are photos, with replacement, and average
    them; 2000 times. Then np.quantile."""
    rng = np.random.default_rng(0)
    photos = np.repeat([f"photo {i}" for i in range(20)], 8)
    values = np.repeat(rng.normal(25, 3, 20), 8) + rng.normal(0, 0.3, 160)
    low, high = (float(v) for v in answer(values, photos))
    right_low, right_high = photo_interval(values, photos)
    require(low < values.mean() < high, f"the interval [{low:.2f}, {high:.2f}] must hold the mean, {values.mean():.2f}")
    ratio = (high - low) / (right_high - right_low)
    require(
        ratio > 0.55,
        "far too narrow: you resampled crops, but crops of one photo are not independent; "
        "average per photo first, then resample photos",
    )
    require(ratio < 3, "far too wide: take quantiles of the resampled means, not of the values")
    require(ratio > 0.9, "a little narrow: 95 % runs from the 2.5 % quantile to the 97.5 % quantile")
    require(ratio < 1.12, "a little wide: 95 % runs from the 2.5 % quantile to the 97.5 % quantile")
    require(abs(low - right_low) + abs(high - right_high) < 0.3 * (right_high - right_low), "right width, wrong place")
