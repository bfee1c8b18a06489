"""Chapters go on with the reader's functions where these are right, and with the package's where they are not."""

import builtins
import importlib
import os
import re
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest

from vartutor.course.chapters import find_chapters
from vartutor.course.progress import read_attempts
from vartutor.exercises import ch04, ch05
from vartutor.exercises.record import PLACE
from vartutor.exercises.sheet import Sheet, whose
from vartutor.paths import course_root

# A reader who lets the solution do the work, and is counted.
BODY = """    import builtins
    from vartutor.exercises.{sheet} import {name}
    builtins.CALLS["{sheet} {name}"] += 1
    return {name}({arguments})"""
USES = {
    "02": ["ch02 quantize", "ch02 perplexity", "ch02 ema_step"],
    "04": ["ch04 token_map", "ch04 multiscale", "ch04 next_inputs"],
    "05": ["ch05 hierarchical", "ch05 canvas", "ch05 next_inputs"],
    "06": ["ch05 next_inputs", "ch06 block_mask", "ch06 top_p"],
    "07": [
        *("ch05 hierarchical", "ch04 token_map", "ch02 quantize", "ch07 soft_loss", "ch06 block_mask"),
        *("ch07 expected_code", "ch06 top_p", "ch07 blend"),
    ],
}


def answered(source: str) -> str:
    """An exercise cell with its stub filled."""
    sheet, name = re.search(r'(ch\d\d)\.(?:use|check)\("(\w+)"', source).groups()
    arguments = re.search(r"def my_\w+\((.*?)\):", source).group(1)
    return source.replace("    return ...", BODY.format(sheet=sheet, name=name, arguments=arguments))


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A folder of the chapters, with every exercise solved."""
    folder = tmp_path_factory.mktemp("solved")
    for chapter in find_chapters(course_root(), list(USES)):
        notebook = chapter.read_source()
        for cell in notebook.cells:
            if "exercise" in cell.metadata.get("tags", ()):
                cell.source = answered(cell.source)
            elif "parameters" in cell.metadata.get("tags", ()):
                cell.source = cell.source.replace('PROFILE = "cpu"', 'PROFILE = "smoke"')
        nbformat.write(notebook, folder / chapter.ipynb.name)
    return folder


@pytest.fixture
def counted(monkeypatch):
    """(calls of each answer, how many of them its check made); ``Sheet.used`` is empty at first."""
    calls, checked, use = Counter(), {}, Sheet.use

    def counting(sheet, name, *args, **options):
        found = use(sheet, name, *args, **options)
        checked[f"{sheet.chapter} {name}"] = calls[f"{sheet.chapter} {name}"]
        return found

    monkeypatch.setattr(builtins, "CALLS", calls, raising=False)
    monkeypatch.setattr(Sheet, "use", counting)
    for n in ("02", "04", "05", "06", "07"):
        module = importlib.import_module(f"vartutor.exercises.ch{n}")
        monkeypatch.setattr(module, "use", module.sheet.use)
    monkeypatch.setattr(Sheet, "used", {})
    return calls, checked


@pytest.mark.parametrize("number", USES)
def test_a_solved_chapter_runs_with_the_readers_functions(number, solved, counted, monkeypatch, capsys):
    mpl.use("Agg")
    monkeypatch.chdir(solved)
    (path,) = Path().glob(f"{number}_*.ipynb")
    names = {"__name__": "__main__"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "widget" not in cell.metadata.get("tags", ()):
            exec(compile(cell.source, path.name, "exec"), names)
        if "whose()" in cell.source:
            break  # the rest of chapter 07 uses nothing of them
    calls, checked = counted
    assert Sheet.used == dict.fromkeys(USES[number], True)
    assert [name for name in USES[number] if calls[name] <= checked[name]] == []
    said = capsys.readouterr().out
    assert said.count("ok; yours is used from here on") == len(USES[number])
    assert "the package's is used" not in said


def save(folder, *sources, chapter="05"):
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": ["exercise"]}) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{chapter}_x.ipynb")


CANVAS = """from vartutor.exercises import ch05


def my_canvas(k, groups):
    return [sides[-1] for sides in groups for _ in sides][k]


canvas = ch05.use("canvas", my_canvas)
"""


def test_what_was_saved_is_found_and_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PLACE, str(tmp_path / "attempts"))
    save(tmp_path, CANVAS)
    function = ch05.use("canvas")
    assert function(1, ((1, 2), (4,))) == 2
    assert function is not ch05.canvas
    assert capsys.readouterr().out == "ch05 canvas: ok; yours is used from here on\n"
    assert read_attempts(tmp_path / "attempts")[0] == []  # it was recorded where it was written
    whose()
    assert "ch05 canvas" in capsys.readouterr().out.split("the package's")[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (CANVAS.replace("sides[-1]", "sides[0]"), "that is the group's first side"),
        (CANVAS.replace("return [", "return ["[:-1] + "... #"), "not attempted yet"),
        (CANVAS.replace("return [", "return nothing_known(k)  # "), "NameError"),
        ("def my_canvas(:", "not attempted yet"),
        (CANVAS.replace("ch05.use(", "ch05.hint("), "not attempted yet"),
    ],
)
def test_what_is_wrong_is_not_used(tmp_path, monkeypatch, capsys, source, said):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, source)
    assert ch05.use("canvas") is ch05.canvas
    line = capsys.readouterr().out
    assert line.startswith("ch05 canvas: the package's is used; yours: ")
    assert said in line
    assert line.count("\n") == 1


def test_a_wrong_function_in_the_chapter_itself_is_recorded_and_not_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PLACE, str(tmp_path / "attempts"))
    assert ch04.use("token_map", lambda rest, codes, p: 0, ch04.token_map) is ch04.token_map
    assert "the package's is used; yours: with rest" in capsys.readouterr().out
    (attempt,), _ = read_attempts(tmp_path / "attempts")
    assert not attempt.ok


def test_a_saved_cell_may_build_on_one_that_was_left_out(tmp_path, monkeypatch):
    """The chapter goes on with the package's canvas, and so does what is saved after it."""
    monkeypatch.chdir(tmp_path)
    stub = (
        CANVAS.split("def my_canvas")[0]
        + 'def my_canvas(k, groups):\n    return ...\n\n\ncanvas = ch05.use("canvas", my_canvas)'
    )
    inputs = (
        "from vartutor.exercises.ch05 import next_inputs as theirs\n"
        "def my_next_inputs(maps, codes, groups, phi, bridge):\n"
        "    assert canvas(0, groups) == groups[0][-1]\n"
        "    return theirs(maps, codes, groups, phi, bridge)\n"
        'next_inputs = ch05.use("next_inputs", my_next_inputs)'
    )
    save(tmp_path, stub, inputs)
    assert ch05.use("next_inputs").__name__ == "my_next_inputs"


def test_half_a_notebook_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for text in ("", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}'):
        Path("05_x.ipynb").write_text(text)
        assert ch05.use("canvas") is ch05.canvas
    os.remove("05_x.ipynb")
    assert ch05.use("canvas") is ch05.canvas  # the clone's own, a stub
    assert capsys.readouterr().out.count("not attempted yet") == 5
