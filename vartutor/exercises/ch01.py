"""Exercises of chapter 01."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from vartutor import metrics
from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch01")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def psnr(x, y):
    mse = (x - y).square().mean()
    return 10 * torch.log10(2**2 / mse)


def _psnr_of(x, y, peak=2, factor=10, log=torch.log10, error=lambda d: d.square().mean()):
    return factor * log(peak**2 / error(x - y))


@sheet.exercise(1, 10, psnr)
def _psnr():
    """PSNR compares the mean squared error with the square of the peak. How far apart can two pixels be at most?

    Pixels in [-1, 1] are at most 2 apart, so the peak is 2. Then 10 log10(peak² / error).
    """
    photos = [torch.rand(1, 3, h, w) * 2 - 1 for h, w in ((1, 2), (9, 8), (20, 31))]
    cases = [
        (x, (x + scale * torch.randn(x.shape)).clamp(-1, 1)) for x, scale in zip(photos, (0.5, 0.1, 0.02), strict=True)
    ]
    mistakes = {
        "that is luma alone; this exercise averages over all three colours.": metrics.psnr,
        "6.02 dB low: the range of [-1, 1] is 2, so the peak is 2, not 1.": partial(_psnr_of, peak=1),
        "3.01 dB low: the peak is not squared.": partial(_psnr_of, peak=2**0.5),
        "the peak is 255, but these images span 2; take the peak in their own units.": partial(_psnr_of, peak=255),
        "that is the natural logarithm; decibels use base 10.": partial(_psnr_of, log=torch.log),
        "half the decibels: 10 log10 goes with the mean square, 20 log10 with its root.": partial(_psnr_of, factor=5),
        "twice the decibels: 20 log10 goes with the root of the mean squared error.": partial(_psnr_of, factor=20),
        "the fraction is upside down; a smaller error must give more decibels.": partial(_psnr_of, factor=-10),
        "you took the absolute error; PSNR squares the differences.": partial(_psnr_of, error=lambda d: d.abs().mean()),
        "the errors are summed; take their mean.": partial(_psnr_of, error=lambda d: d.square().sum()),
        "that is the mean squared error; PSNR compares it with the peak, in dB.": lambda x, y: (x - y).square().mean(),
    }
    return cases, mistakes


def same_lr(x, pattern):
    def down(z):
        return F.avg_pool2d(z, 4)

    def up(z):
        return F.interpolate(z, scale_factor=4, mode="nearest")

    return x + pattern - up(down(pattern))


def _blocks(z, size=4, mode="nearest"):
    return F.interpolate(F.avg_pool2d(z, size), scale_factor=size, mode=mode)


def _say_shift(got, right, x, pattern):
    shift = (F.avg_pool2d(got, 4) - F.avg_pool2d(x, 4)).abs().max()
    if shift > 1e-4:
        return f"The small photo of your result differs from that of x by up to {shift:.3f}: it should not change."
    return "It shrinks to the same averages as x, as it should, but it is not x plus all of the pattern that they miss."


@sheet.exercise(2, 20, same_lr, explain=_say_shift)
def _same_lr():
    """Split the pattern into two parts: one that shrinking sees, and one that it does not see. Which may you add?

    Let down be avg_pool2d(., 4) and up be F.interpolate(scale_factor=4, mode='nearest'). What is down(pattern -
    up(down(pattern)))?
    """
    cases = [(torch.rand(b, 3, h, w) * 2 - 1, torch.randn(b, 3, h, w)) for b, h, w in ((1, 4, 8), (2, 12, 8))]
    mistakes = {
        "that is the photo itself; the pattern left no trace.": lambda x, n: x,
        "you added the whole pattern; take out of it what survives the shrinking.": lambda x, n: x + n,
        "you added the part that the shrinking sees; add the part that it does not see.": lambda x, n: x + _blocks(n),
        "you subtracted the hidden part; add it.": lambda x, n: x - n + _blocks(n),
        "that is the hidden part of the pattern alone; add it to the photo x.": lambda x, n: n - _blocks(n),
        "you took the blocks out of x too; take them out of the pattern alone.": lambda x, n: x + n - _blocks(x + n),
        "the result is clamped, which changes averages of blocks; leave it.": lambda x, n: same_lr(x, n).clamp(-1, 1),
        "you enlarged with bilinear; enlarge with mode='nearest', so that shrinking undoes enlarging.": (
            lambda x, n: x + n - _blocks(n, mode="bilinear")
        ),
        "your blocks are 2 × 2 pixels; the photo is shrunk by 4.": lambda x, n: x + n - _blocks(n, 2),
        "you subtracted one mean for the whole pattern; every block has its own.": lambda x, n: x + n - n.mean(),
    }
    return cases, mistakes


def photo_interval(values, photos, seed=0):
    values, photos = np.asarray(values), np.asarray(photos)
    means = np.array([values[photos == name].mean() for name in np.unique(photos)])
    rng = np.random.default_rng(seed)
    resampled = [rng.choice(means, len(means)).mean() for _ in range(2000)]
    return tuple(np.quantile(resampled, [0.025, 0.975]))


def _say_width(got, right, values, photos):
    ratio = (got[1] - got[0]) / (right[1] - right[0])
    if ratio < 0:
        return "High comes before low."
    seen = f"The interval is {ratio:.2f} times as wide as it should be. "
    if 0.4 < ratio < 0.75:
        return (
            seen + "Did you resample crops? Those of one photo are not independent: average per photo, then resample."
        )
    if ratio > 2.5:
        return seen + "Did you take quantiles of single values? They belong to the resampled means."
    return seen + "It runs from the 2.5 % quantile to the 97.5 % quantile of about 2000 means of resampled photos."


def _four_times(answer, values, photos):
    """Resampling is random: the mean of four calls, with the crops and the names of the photos in other orders."""
    ends = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        order, names = rng.permutation(len(values)), rng.permutation(photos.max() + 1)
        low, high = answer(values[order], np.array([f"photo {n}" for n in names])[photos[order]])
        ends.append((float(low), float(high)))
    return tuple(float(end) for end in np.mean(ends, axis=0))


@sheet.exercise(
    3,
    30,
    photo_interval,
    run=_four_times,
    parts=("low", "high"),
    agree=lambda got, right: abs(got - right) < 0.25,  # of a standard error, which is 1 in these cases
    explain=_say_width,
)
def _photo_interval():
    """Crops of one photo resemble each other. What are the independent things here: the crops, or the photos?

    Average the values of each photo. Draw as many photo means as there are photos, with replacement, and average
    them; 2000 times. Then np.quantile.
    """
    cases = []
    for count in (9, 14):
        means = (-torch.rand(count).log()).pow(3).sort().values.numpy()  # a few photos are far above the others
        sizes = [6, *(4 + (-1) ** n if n < count - 3 else 4 for n in range(1, count))]  # pooling crops gives the same
        photos = np.repeat(np.arange(count), sizes)
        values = means[photos] + means.std() * torch.randn(len(photos)).numpy()
        each = np.array([values[photos == n].mean() for n in range(count)])
        cases.append((25 + values * count**0.5 / each.std(), photos))
    return cases, {}
