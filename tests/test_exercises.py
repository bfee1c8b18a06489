"""Every exercise: its solution passes, its stub is "not attempted", and typical mistakes get the right diagnosis."""

import importlib
import pkgutil

import pytest

import vartutor.exercises
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


WRONG = [(sheet, *row) for sheet in SHEETS for row in importlib.import_module(f"mistakes.{sheet.chapter}").WRONG]


@pytest.mark.parametrize(("sheet", "name", "answer", "diagnosis"), WRONG)
def test_typical_mistakes_are_diagnosed(sheet, name, answer, diagnosis):
    assert diagnosis in sheet.verdict(name, answer)


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_three_mistakes_are_known_for_each(sheet, name):
    assert sum(of is sheet and exercise == name for of, exercise, *_ in WRONG) >= 3


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
