"""Every exercise: its solution passes, its stub is "not attempted", and typical mistakes get the right diagnosis."""

import importlib
import math
import pkgutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vartutor.exercises
from vartutor import metrics
from vartutor.errors import UserError
from vartutor.exercises import ch00, ch01
from vartutor.exercises.sheet import NOT_ATTEMPTED

SHEETS = [
    importlib.import_module(f"vartutor.exercises.{module.name}").sheet
    for module in pkgutil.iter_modules(vartutor.exercises.__path__)
    if module.name.startswith("ch")
]
ALL = [pytest.param(sheet, name, id=f"{sheet.chapter}-{name}") for sheet in SHEETS for name in sheet.exercises]


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_solution_passes(sheet, name):
    assert sheet.verdict(name, sheet.exercises[name].solution) == "ok"


@pytest.mark.parametrize(("sheet", "name"), ALL)
@pytest.mark.parametrize("nothing", [None, ...])
def test_stub_is_not_attempted(sheet, name, nothing):
    assert sheet.verdict(name, lambda *args: nothing) == NOT_ATTEMPTED


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_an_answer_that_raises_is_named_not_raised(sheet, name):
    def answer(*args):
        raise KeyError("oops")

    assert sheet.verdict(name, answer) == "your function raised KeyError: 'oops'"


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_nonsense_is_not_ok(sheet, name):
    assert sheet.verdict(name, lambda *args: "seven") not in ("ok", NOT_ATTEMPTED)


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.chapter)
def test_every_chapter_has_one_two_and_three_stars(sheet):
    assert sorted({exercise.stars for exercise in sheet.exercises.values()}) == [1, 2, 3]


def shrink(x):
    return F.avg_pool2d(x, 4)


def enlarge(x, mode="nearest"):
    return F.interpolate(x, scale_factor=4, mode=mode)


def maps(x, sizes, subtract=True, area="area", up="bicubic", small=True):
    parts, rest = [], x
    for p in sizes:
        part = F.interpolate(rest, size=(p, p), mode=area)
        wide = F.interpolate(part, size=x.shape[-2:], mode=up)
        rest = rest - wide if subtract else rest
        parts.append(part if small else wide)
    return parts


def crop_interval(values, photos, level=(0.025, 0.975), of=None):
    values, photos = np.asarray(values), np.asarray(photos)
    rng = np.random.default_rng(1)
    sample = values if of is None else np.array([values[photos == p].mean() for p in np.unique(photos)])
    return np.quantile([rng.choice(sample, len(sample)).mean() for _ in range(2000)], level)


WRONG = [
    (ch00, "count_tokens", sum, "added the sides"),
    (ch00, "count_tokens", lambda p: p[-1] ** 2, "last scale alone"),
    (ch00, "count_tokens", lambda p: sum(n * n for n in set(p)), "counts twice"),
    (ch00, "count_tokens", lambda p: sum(n * n for n in p[1:]), "the answer is 680"),
    (ch00, "to_pixels", lambda x: ((x + 1) * 127.5).round().to(torch.uint8), "clamp"),
    (ch00, "to_pixels", lambda x: ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8), "round first"),
    (ch00, "to_pixels", lambda x: ((x + 1) * 127.5).round().clamp(0, 255), "return uint8"),
    (ch00, "to_pixels", lambda x: (x * 255).round().clamp(0, 255).to(torch.uint8), "not every level"),
    (ch00, "to_pixels", lambda x: (x * 127.5).round().clamp(0, 255).to(torch.uint8), "must become 255"),
    (ch00, "coarse_to_fine", lambda x, s: maps(x, s, subtract=False), "shrinks the photo itself"),
    (ch00, "coarse_to_fine", lambda x, s: maps(x, s, small=False), "store the small map"),
    (ch00, "coarse_to_fine", lambda x, s: maps(x, s, area="nearest"), "mean colour"),
    (ch00, "coarse_to_fine", lambda x, s: maps(x, s, up="nearest"), "add up to the photo"),
    (ch01, "psnr", lambda x, y: 10 * torch.log10(1 / (x - y).square().mean()), "peak is 2"),
    (ch01, "psnr", lambda x, y: 10 * torch.log10(255**2 / (x - y).square().mean()), "not 255"),
    (ch01, "psnr", lambda x, y: 10 * torch.log(4 / (x - y).square().mean()), "natural logarithm"),
    (ch01, "psnr", lambda x, y: 10 * torch.log10(2 / (x - y).square().mean().sqrt()), "half the decibels"),
    (ch01, "psnr", lambda x, y: 20 * math.log10(4 / (x - y).square().mean()), "twice the decibels"),
    (ch01, "psnr", lambda x, y: 10 * torch.log10((x - y).square().mean() / 4), "upside down"),
    (ch01, "psnr", metrics.psnr, "luma alone"),
    (ch01, "psnr", lambda x, y: (x - y).abs().mean(), "expected"),
    (ch01, "same_lr", lambda x, n: x, "left no trace"),
    (ch01, "same_lr", lambda x, n: x + n, "whole pattern"),
    (ch01, "same_lr", lambda x, n: x + enlarge(shrink(n)), "the part that the shrinking sees"),
    (ch01, "same_lr", lambda x, n: x + n - enlarge(shrink(n), "bilinear"), "mode='nearest'"),
    (ch01, "same_lr", lambda x, n: (x + n - enlarge(shrink(n))).clamp(-1, 1), "do not clamp"),
    (ch01, "same_lr", lambda x, n: x + 0.1 * (n - enlarge(shrink(n))), "keep all of the pattern"),
    (ch01, "photo_interval", crop_interval, "resampled crops"),
    (ch01, "photo_interval", lambda v, p: np.quantile(v, [0.025, 0.975]), "quantiles of the resampled means"),
    (ch01, "photo_interval", lambda v, p: crop_interval(v, p, (0.05, 0.95), "photos"), "2.5 % quantile"),
    (ch01, "photo_interval", lambda v, p: crop_interval(v, p, (0.005, 0.995), "photos"), "2.5 % quantile"),
    (ch01, "photo_interval", lambda v, p: (0.0, 1.0), "must hold the mean"),
]


@pytest.mark.parametrize(("chapter", "name", "answer", "diagnosis"), WRONG)
def test_typical_mistakes_are_diagnosed(chapter, name, answer, diagnosis):
    assert diagnosis in chapter.sheet.verdict(name, answer)


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_three_mistakes_are_known_for_each(sheet, name):
    assert sum(chapter.sheet is sheet and exercise == name for chapter, exercise, *_ in WRONG) >= 3


def test_check_prints_one_line(capsys):
    ch00.check("count_tokens", lambda p: ...)
    assert capsys.readouterr().out == "ch00 count_tokens: not attempted yet\n"


def test_hint_and_solution_are_folded(monkeypatch):
    shown = []
    monkeypatch.setattr("vartutor.exercises.sheet.display", lambda html: shown.append(html.data))
    ch01.hint("psnr")
    ch01.solution("psnr")
    assert all(text.startswith("<details><summary>") for text in shown)
    assert "def psnr(x, y):" in shown[1]


def test_unknown_exercise_is_one_clear_line():
    with pytest.raises(UserError, match="no exercise 'psmr' in ch01: it has psnr"):
        ch01.check("psmr", print)
