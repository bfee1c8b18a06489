"""Every exercise: right answers pass, stubs are "not attempted", and wrong answers get the diagnosis they deserve."""

import importlib
import math
import pkgutil
import re
import time

import pytest
import torch
from mistakes.right import RIGHT

import vartutor.exercises
from vartutor.errors import UserError
from vartutor.exercises import ch00, ch01, ch02, ch04, ch08, ch09
from vartutor.exercises.sheet import NOT_ATTEMPTED

SHEETS = {
    module.name: importlib.import_module(f"vartutor.exercises.{module.name}").sheet
    for module in pkgutil.iter_modules(vartutor.exercises.__path__)
    if module.name.startswith("ch")
}
ALL = [
    pytest.param(sheet, name, id=f"{chapter}-{name}") for chapter, sheet in SHEETS.items() for name in sheet.exercises
]
WRONG = [
    (sheet, *row) for chapter, sheet in SHEETS.items() for row in importlib.import_module(f"mistakes.{chapter}").WRONG
]
KNOWN = [
    pytest.param(sheet, name, diagnosis, id=f"{chapter}-{name}-{number}")
    for chapter, sheet in SHEETS.items()
    for name, exercise in sheet.exercises.items()
    for number, diagnosis in enumerate(exercise.drawn()[1])
]


# --- right answers, and answers that are none ---------------------------------------------------------


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_solution_passes(sheet, name):
    start = time.process_time()
    assert sheet.verdict(name, sheet.exercises[name].solution) == "ok"
    assert time.process_time() - start < 2


@pytest.mark.parametrize(("chapter", "name", "answer"), RIGHT, ids=[f"{c}-{n}" for c, n, _ in RIGHT])
def test_other_right_answers_pass(chapter, name, answer):
    assert SHEETS[chapter].verdict(name, answer) == "ok"


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_another_right_answer_is_known_for_each(sheet, name):
    assert any(chapter == sheet.chapter and exercise == name for chapter, exercise, _ in RIGHT)


def dots(*args):
    return ...


def no_body(*args):
    """Words only."""


def none(*args):
    return None


@pytest.mark.parametrize(("sheet", "name"), ALL)
@pytest.mark.parametrize("stub", [dots, no_body, none, lambda *args: ...])
def test_stub_is_not_attempted(sheet, name, stub):
    assert sheet.verdict(name, stub) == NOT_ATTEMPTED


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_a_forgotten_return_is_told_from_a_stub(sheet, name):
    def answer(*args):
        args[0]  # looks at something, and forgets to return

    assert "your function returned None" in sheet.verdict(name, answer)


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_an_answer_that_raises_is_named_with_its_line(sheet, name):
    def answer(*args):
        table = {}
        return table["oops"]

    assert sheet.verdict(name, answer).endswith(
        "your function raised KeyError: 'oops', in line 3 of answer: return table[\"oops\"]"
    )


def test_the_line_is_the_readers_own_even_if_torch_raises():
    def answer(x, y):
        return torch.stack([x, y[..., 1:]])

    assert "in line 2 of answer: return torch.stack" in ch01.sheet.verdict("psnr", answer)


@pytest.mark.parametrize(("sheet", "name"), ALL)
@pytest.mark.parametrize("nonsense", ["seven", (), {}, True, torch.zeros(0), [None]])
def test_nonsense_is_not_ok(sheet, name, nonsense):
    verdict = sheet.verdict(name, lambda *args: nonsense)
    assert verdict not in ("ok", NOT_ATTEMPTED)
    assert "\n" not in verdict


# --- what comes before values -------------------------------------------------------------------------


def test_inputs_are_copies_and_must_stay_as_they_are():
    def answer(rest, codes, p):
        tokens = ch04.token_map(rest, codes, p)
        rest -= 1
        return tokens

    assert "you changed your input rest: clone it first" in ch04.sheet.verdict("token_map", answer)


def test_a_wrong_shape_comes_before_changed_inputs_and_values():
    def answer(x, pattern):
        x += pattern
        return x[0]

    assert "should be a tensor of floats, shape (1, 3, 4, 8), and is a tensor of floats, shape (3, 4, 8)" in (
        ch01.sheet.verdict("same_lr", answer)
    )


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda loss: loss.long(), "a tensor of whole numbers"),
        (lambda loss: loss > 0, "a tensor of booleans"),
        (lambda loss: loss.to("meta"), "on meta"),
        (lambda loss: loss.numpy(), "an array"),
        (lambda loss: loss * math.nan, "holds nan"),
        (lambda loss: loss[0], "shape ()"),
    ],
)
def test_form_and_nan_come_first(change, seen):
    assert seen in ch08.sheet.verdict("dpo_loss", lambda *args: change(ch08.dpo_loss(*args)))


def test_unknown_mistakes_show_the_smallest_case_with_numbers():
    assert ch00.sheet.verdict("count_tokens", lambda p: 7 * len(p)) == (
        "with patch_nums = (1, 2), the result should be 5, and is 14."
    )
    verdict = ch02.sheet.verdict("ema_step", lambda *args: [part + 1 for part in ch02.ema_step(*args)])
    assert "codes differs in 18 of 18 places; at [0, 0] it should be" in verdict


def test_the_readers_random_numbers_go_on(capsys):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    ch02.check("quantize", lambda f, codes: f)
    assert torch.equal(torch.rand(2), expected)


def test_an_answer_that_is_wrong_only_at_times_is_told_so():
    calls = []

    def answer(values, chosen, level):
        calls.append(level)
        return (0.0, 0.0) if len(calls) == 1 else ch09.interval(values, chosen, level)

    assert "low should be 0.555" in ch09.sheet.verdict("interval", answer)


# --- diagnoses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sheet", "name", "answer", "diagnosis"), WRONG)
def test_typical_mistakes_are_diagnosed(sheet, name, answer, diagnosis):
    start = time.process_time()
    assert diagnosis in sheet.verdict(name, answer)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_six_mistakes_are_known_for_each(sheet, name):
    assert sum(of is sheet and exercise == name for of, exercise, *_ in WRONG) >= 6


@pytest.mark.parametrize(("sheet", "name", "diagnosis"), KNOWN)
def test_a_known_mistake_is_taken_for_itself(sheet, name, diagnosis):
    verdict = sheet.verdict(name, sheet.exercises[name].drawn()[1][diagnosis])
    assert verdict.endswith(f" Probably: {diagnosis}")


# --- the rest of a sheet ------------------------------------------------------------------------------


@pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS)
def test_every_chapter_has_one_two_and_three_stars(sheet):
    assert sorted({exercise.stars for exercise in sheet.exercises.values()}) == [1, 2, 3]


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


@pytest.mark.parametrize(("sheet", "name"), ALL)
def test_two_hints_lead_to_each_solution(sheet, name, monkeypatch):
    shown = []
    monkeypatch.setattr("vartutor.exercises.sheet.display", lambda html: shown.append(html.data))
    sheet.hint(name)
    first, second = re.findall(r"<p>(.+?)</p>", shown[0])
    assert min(len(first), len(second)) > 20
    assert first != second


def test_unknown_exercise_is_one_clear_line():
    with pytest.raises(UserError, match="no exercise 'psmr' in ch01: it has psnr"):
        ch01.check("psmr", print)
