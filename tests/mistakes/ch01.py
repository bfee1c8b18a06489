"""Typical wrong answers of chapter 01: (exercise, answer, part of the diagnosis)."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from vartutor import metrics


def shrink(x):
    return F.avg_pool2d(x, 4)


def enlarge(x, mode="nearest"):
    return F.interpolate(x, scale_factor=4, mode=mode)


def crop_interval(values, photos, level=(0.025, 0.975), of=None):
    values, photos = np.asarray(values), np.asarray(photos)
    rng = np.random.default_rng(1)
    sample = values if of is None else np.array([values[photos == p].mean() for p in np.unique(photos)])
    return np.quantile([rng.choice(sample, len(sample)).mean() for _ in range(2000)], level)


def one_crop(values, photos):
    """One random crop of each photo stands for it."""
    rng = np.random.default_rng(2)
    chosen = np.array([rng.choice(values[photos == p]) for p in np.unique(photos)])
    return crop_interval(chosen, None)


def bell(values, photos):
    """The mean, and 1.96 standard errors to each side."""
    means = np.array([values[photos == p].mean() for p in np.unique(photos)])
    reach = 1.96 * means.std(ddof=1) / len(means) ** 0.5
    return means.mean() - reach, means.mean() + reach


def twenty(values, photos):
    rng = np.random.default_rng(3)
    means = np.array([values[photos == p].mean() for p in np.unique(photos)])
    return np.quantile([rng.choice(means, len(means)).mean() for _ in range(20)], [0.025, 0.975])


WRONG = [
    ("psnr", lambda x, y: 10 * torch.log10(1 / (x - y).square().mean()), "peak is 2"),
    ("psnr", lambda x, y: 10 * torch.log10(255**2 / (x - y).square().mean()), "peak is 255"),
    ("psnr", lambda x, y: 10 * torch.log(4 / (x - y).square().mean()), "natural logarithm"),
    ("psnr", lambda x, y: 10 * torch.log10(2 / (x - y).square().mean().sqrt()), "half the decibels"),
    ("psnr", lambda x, y: 20 * math.log10(4 / (x - y).square().mean()), "twice the decibels"),
    ("psnr", lambda x, y: 10 * torch.log10((x - y).square().mean() / 4), "upside down"),
    ("psnr", metrics.psnr, "luma alone"),
    ("psnr", lambda x, y: (x - y).abs().mean(), "should be 12.4609"),
    ("same_lr", lambda x, n: x, "left no trace"),
    ("same_lr", lambda x, n: x + n, "whole pattern"),
    ("same_lr", lambda x, n: x + enlarge(shrink(n)), "the part that the shrinking sees"),
    ("same_lr", lambda x, n: x + n - enlarge(shrink(n), "bilinear"), "mode='nearest'"),
    ("same_lr", lambda x, n: (x + n - enlarge(shrink(n))).clamp(-1, 1), "the result is clamped"),
    ("same_lr", lambda x, n: x + 0.1 * (n - enlarge(shrink(n))), "not x plus all of the pattern"),
    ("photo_interval", crop_interval, "Those of one photo are not independent"),
    ("photo_interval", lambda v, p: np.quantile(v, [0.025, 0.975]), "quantiles of single values"),
    ("photo_interval", lambda v, p: crop_interval(v, p, (0.05, 0.95), "photos"), "2.5 % quantile"),
    ("photo_interval", lambda v, p: crop_interval(v, p, (0.005, 0.995), "photos"), "2.5 % quantile"),
    ("photo_interval", lambda v, p: (0.0, 1.0), "low should be"),
    ("psnr", lambda x, y: (x - y).square().mean(), "that is the mean squared error"),
    ("psnr", lambda x, y: 10 * torch.log10(4 / (x - y).square().sum()), "errors are summed"),
    ("psnr", lambda x, y: 10 * torch.log10(4 / (x - y).abs().mean()), "absolute error"),
    ("psnr", lambda x, y: (x - y).log(), "should be a number, and is a tensor"),
    ("psnr", lambda x, y: (x - x).mean() / 0, "holds nan"),
    ("same_lr", lambda x, n: n - enlarge(shrink(n)), "add it to the photo x"),
    ("same_lr", lambda x, n: x + n - enlarge(shrink(x + n)), "out of x too"),
    ("same_lr", lambda x, n: x - n + enlarge(shrink(n)), "you subtracted the hidden part"),
    ("same_lr", lambda x, n: x + n - n.mean(), "one mean for the whole pattern"),
    ("same_lr", lambda x, n: x + n - enlarge(shrink(n), "bicubic"), "it should not change"),
    ("photo_interval", lambda v, p: crop_interval(v.reshape(9, -1).mean(1), None), "cannot reshape"),
    ("photo_interval", one_crop, "about 2000 means of resampled photos"),
    ("photo_interval", bell, "should be 25"),
    ("photo_interval", lambda v, p: crop_interval(v, p, (0.975, 0.025), "photos"), "High comes before low"),
    ("photo_interval", lambda v, p: (23.3, 25.6), "low should be"),
    ("same_lr", lambda x, n: x.add_(n).sub_(enlarge(shrink(n))), "you changed your input x"),
    ("photo_interval", twenty, "about 2000 means"),
]
