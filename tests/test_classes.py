"""Progress, the edition for students, and grading."""

import csv
import inspect
import json
import os

import nbformat
import psutil
import pytest

from vartutor.cli import main
from vartutor.course.chapters import find_chapters
from vartutor.course.edition import with_stubs, write_edition
from vartutor.course.grade import Limits, grade
from vartutor.course.progress import CHAPTERS, latest, progress, read_attempts, sheet_of
from vartutor.course.submission import MAX_OUTPUT
from vartutor.exercises import ch04, record
from vartutor.paths import course_root

RIGHT = inspect.getsource(ch04.token_map).replace("def token_map", "def my_token_map")
ANSWER = "import torch\nimport torch.nn.functional as F\nfrom vartutor.exercises import ch04\n\n" + RIGHT
CHECK = "ch04.check('token_map', my_token_map)"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(record.PLACE, str(tmp_path / "attempts.jsonl"))
    return tmp_path / "attempts.jsonl"


def write(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


# --- progress ------------------------------------------------------------------------------------------


def test_attempts_are_recorded_and_stubs_are_not(place, capsys):
    ch04.check("token_map", lambda rest, codes, p: ...)
    assert not place.exists()
    ch04.check("token_map", lambda rest, codes, p: 0)
    ch04.check("token_map", ch04.token_map)
    (first, second), others = read_attempts(place)
    assert others == 0
    assert (first.exercise, first.stars, first.ok) == ("token_map", 1, False)
    assert second.ok
    assert latest([first, second]) == {("ch04", "token_map"): second}
    capsys.readouterr()
    assert main(["progress"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[4].startswith("04  ✓ token_map ★   · multiscale ★★")
    assert printed[-1].startswith("1 of 40 solved")


def test_a_record_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(record.PLACE, str(tmp_path / "no" / "folder"))
    ch04.check("token_map", ch04.token_map)
    assert capsys.readouterr().out == "ch04 token_map: ok\n"
    assert list(progress(latest(read_attempts(record.record_file())[0])))[-1].startswith("0 of 40")


GOOD = json.dumps({"chapter": "ch04", "exercise": "token_map", "stars": 1, "verdict": "ok", "seconds": 0.1})
JUNK = {
    "no JSON": "nothing",
    "half a line": GOOD[:40],
    "a list": "[]",
    "no keys": "{}",
    "keys of something else": GOOD.replace("stars", "points"),
    "a list for a name": GOOD.replace('"ch04"', "[]"),
    "a word for stars": GOOD.replace("1,", '"many",'),
    "no number": GOOD.replace("0.1", "NaN"),
    "no end": "[" * 100_000,
    "an endless number": "1" * 10_000,
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_what_is_no_attempt_is_left_out_of_a_record_and_counted(place, capsys, junk):
    place.write_text(f"{GOOD}\n{junk}\n{GOOD}\n")
    attempts, others = read_attempts(place)
    assert [attempt.ok for attempt in attempts] == [True, True]
    assert others == 1
    assert main(["progress"]) == 0
    assert capsys.readouterr().err == f"vartutor progress: left out 1 lines of {place}: no attempts\n"


def test_a_record_is_a_file_and_not_read_without_end(place):
    place.mkdir()
    assert read_attempts(place) == ([], 0)
    with open(place / "large", "wb") as file:
        file.write(GOOD.encode() + b"\n")
        file.truncate(2**40)
    attempts, others = read_attempts(place / "large")
    assert (len(attempts), others) == (1, 1)


def test_checks_draw_other_cases_from_another_seed(monkeypatch):
    exercise = sheet_of("ch04").exercises["token_map"]
    (first, *_), _ = exercise.drawn()
    monkeypatch.setenv(record.SEED, "7")
    (other, *_), _ = exercise.drawn()
    assert first[0].shape == other[0].shape
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("seed", ["1", "5", "77"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_solutions_are_right_with_any_seed(chapter, seed, monkeypatch):
    monkeypatch.setenv(record.SEED, seed)
    sheet = sheet_of(chapter)
    assert {name: sheet.verdict(name, e.solution) for name, e in sheet.exercises.items()} == dict.fromkeys(
        sheet.exercises, "ok"
    )


# --- edition -------------------------------------------------------------------------------------------


def test_no_solution_is_left_in_the_edition(tmp_path, capsys):
    assert main(["edition", "--student", "--out", str(tmp_path)]) == 0
    chapters = find_chapters(course_root())
    for chapter, name in zip(chapters, CHAPTERS, strict=True):
        text = (tmp_path / chapter.ipynb.name).read_text(encoding="utf-8")
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        assert "<details>" not in text
        assert ".solution(" not in text
        exercises = [cell.source for cell in notebook.cells if "exercise" in cell.metadata.get("tags", ())]
        assert len(exercises) == len(sheet_of(name).exercises)
        for source in exercises:
            assert "return ..." in source
        # A solution may be a line that the chapter itself explains; then it stands in an explaining cell, not here.
        asked = "".join(exercises)
        for exercise in sheet_of(name).exercises.values():
            for line in inspect.getsource(exercise.solution).splitlines()[1:]:
                assert len(line.strip()) < 12 or line.strip() not in asked
        hints = [cell for cell in notebook.cells if f"{name}.hint(" in cell.source]
        assert len(hints) == len(exercises)
        assert all(cell.outputs == [] for cell in hints)


def test_answers_become_stubs_and_the_rest_stays():
    source = "import torch\n\n\ndef my_sum(a, b):\n    c = a + b\n    return c\n\n\nch00.check('sum', my_sum)"
    assert with_stubs(source) == "import torch\n\n\ndef my_sum(a, b):\n    return ...\n\n\nch00.check('sum', my_sum)"
    assert with_stubs("def my_sum(:") == "def my_sum(:"


def test_the_edition_keeps_figures(tmp_path):
    (chapter,) = find_chapters(course_root(), ["04"])
    (path,) = write_edition([chapter], tmp_path)
    assert path.read_text(encoding="utf-8").count('"image/jpeg"') > 2


# --- grade ---------------------------------------------------------------------------------------------


def test_grades_of_a_class(tmp_path, capsys):
    submitted, out = tmp_path / "in", tmp_path / "out"
    write(submitted / "ada" / "04.ipynb", ANSWER, CHECK)
    wrong = "from vartutor.exercises import ch04\ndef my_token_map(rest, codes, p):\n    return 1 / 0"
    write(submitted / "bob <b>" / "04.ipynb", "undefined_name", wrong, CHECK)
    write(submitted / "eve.ipynb", "# from vartutor.exercises import ch04\nimport time\ntime.sleep(600)")
    write(
        submitted / "mallory.ipynb",
        "# from vartutor.exercises import ch04\nx = bytearray(10**9)\nimport time\ntime.sleep(600)",
    )
    (submitted / "zoe").mkdir()
    (submitted / "zoe" / "04.ipynb").write_text("no notebook")
    words = ["grade", str(submitted), "--out", str(out), "--seed", "3", "--minutes", "0.5", "--memory", "0.9"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Notebooks are programs" in printed
    assert "ada 04.ipynb: 1 of 6 points\n" in printed
    assert "bob <b> 04.ipynb: 0 of 6 points\n" in printed
    assert "eve eve.ipynb: 0 of 6 points, stopped after 0.5 minutes" in printed
    assert "mallory mallory.ipynb: 0 of 6 points, stopped at 0.9 GB" in printed
    assert "zoe 04.ipynb: 0 of 0 points, not a notebook" in printed
    with open(out / "grades.csv", encoding="utf-8", newline="") as file:
        rows = {(row["student"], row["exercise"]): row for row in csv.DictReader(file)}
    assert (rows["ada", "ch04 token_map"]["verdict"], rows["ada", "ch04 token_map"]["points"]) == ("ok", "1")
    assert rows["ada", "ch04 multiscale"]["verdict"] == "not attempted yet"
    assert "ZeroDivisionError" in rows["bob <b>", "ch04 token_map"]["verdict"]
    page = (out / "bob <b>" / "report.html").read_text(encoding="utf-8")
    assert "bob &lt;b&gt;: 0 of 6 points" in page
    assert "ZeroDivisionError" in page
    executed = nbformat.read(out / "ada" / "04.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "ch04 token_map: ok\n"
    assert not list(out.rglob("*.jsonl"))


def test_an_unchanged_notebook_is_not_run_again(tmp_path, monkeypatch):
    write(tmp_path / "in" / "ada" / "04.ipynb", ANSWER, CHECK)
    first = grade(tmp_path / "in", tmp_path / "out", 0, Limits(), report=lambda line: None)
    assert first[0].points == 1
    monkeypatch.setattr("vartutor.course.grade._limited", lambda *_: pytest.fail("it ran again"))
    assert grade(tmp_path / "in", tmp_path / "out", 0, Limits(), report=lambda line: None) == first
    state = next((tmp_path / "out").rglob("*.json"))
    assert json.loads(state.read_text())["attempts"][0]["verdict"] == "ok"


@pytest.mark.parametrize("text", ["[]", "{}", '{"nbformat": 4, "cells": 5}', '{"nbformat": 4, "cells": [{}]}', "\xff"])
def test_what_is_no_notebook_gets_one_line(tmp_path, text):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.ipynb").write_bytes(text.encode("latin-1"))
    lines = []
    (row,) = grade(tmp_path / "in", tmp_path / "out", 0, Limits(), report=lines.append)
    assert (row.student, row.points, row.stars) == ("ada", 0, 0)
    assert "not a notebook" in row.verdict
    assert lines == [f"ada ada.ipynb: 0 of 0 points, {row.verdict}"]


def raw(path, **changes):
    """A notebook that nbformat would not write."""
    cell = {"id": "a", "cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": "1"}
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [cell | {"source": SOLVED, "id": "b"}, cell | changes]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))


# Solves an exercise without the time that torch takes to import.
SOLVED = f"# from vartutor.exercises import ch04\nimport os\nrecord = os.environ['{record.PLACE}']\n"
SOLVED += f"open(record, 'a').write('{GOOD}\\n');"
HARMFUL = {
    "spoils its record": ("open(record, 'a').write('nothing\\n[]\\n')", 1, ", 2 lines of its record are no attempts"),
    "ends": ("open('found.txt', 'w').write('x')\nos._exit(0)", 1, ", its kernel died"),
    "asks for a chapter that there is not": ("from vartutor.exercises import ch77", 1, ""),
    "prints too much": ("for _ in range(40):\n    print('x' * 100_000)\nprint('\\udc80')", 1, ""),
    "leaves a program": ("import subprocess\nsubprocess.Popen(['sleep', '654'], start_new_session=True)", 1, ""),
    "asks to end": ("exit()", 1, ""),
    "forks": ("import time\nif not os.fork():\n    time.sleep(654)", 1, ""),
    "makes its record a folder": ("os.remove(record)\nos.mkdir(record)", 0, ""),
    "removes its folder": ("import shutil\nshutil.rmtree(os.getcwd())\nshutil.rmtree(os.path.dirname(record))", 0, ""),
    "locks its folder": ("os.chmod(os.path.dirname(record), 0)", 1, ""),
    "asks a question": ("input()", 1, ""),
    "kills its parent": ("import signal\nos.kill(os.getppid(), signal.SIGKILL)", 1, ", its kernel died"),
    "never ends": ("while True: pass", 1, ", stopped after 0.5 minutes"),
    "prints for ever": ("while True: print('x' * 10**6)", 1, ", stopped "),
}
LIGHT = ("spoils its record", "ends", "asks for a chapter that there is not")


@pytest.mark.parametrize("names", [LIGHT, pytest.param(HARMFUL.keys() - set(LIGHT), marks=pytest.mark.slow)])
def test_a_harmful_notebook_costs_itself_alone(tmp_path, capsys, names):
    submitted, out = tmp_path / "in", tmp_path / "out"
    for name in names:
        write(submitted / name / "04.ipynb", SOLVED, HARMFUL[name][0])
    write(submitted / os.fsdecode(b"caf\xe9 \n") / "report.html" / "04.ipynb", SOLVED)
    before = sorted((course_root() / "notebooks").iterdir())
    assert main(["grade", str(submitted), "--out", str(out), "--minutes", "0.5", "--memory", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = dict(line.split(" 04.ipynb: ") for line in lines if " 04.ipynb: " in line)
    expected = {name: f"{HARMFUL[name][1]} of 6 points{HARMFUL[name][2]}" for name in names}
    assert {name: said[name][: len(words)] for name, words in expected.items()} == expected
    assert said["caf\\udce9 \\n"] == "1 of 6 points"
    assert [line for line in lines if "no page" in line]
    with open(out / "grades.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in names:
        last = [row["verdict"] for row in rows if row["student"] == name][-1]
        assert HARMFUL[name][2].removeprefix(",").strip() in last
    executed = [path for path in out.rglob("*.ipynb") if path.is_file()]
    assert max(path.stat().st_size for path in executed) < 3 * MAX_OUTPUT
    assert sorted((course_root() / "notebooks").iterdir()) == before
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "654"]]


def test_what_no_kernel_can_run_costs_itself_alone(tmp_path):
    folder, lines = tmp_path / "in", []
    raw(folder / "tags.ipynb", metadata={"tags": 5})
    raw(folder / "half a character.ipynb", source="'\ud800'")
    raw(folder / "picture.ipynb", outputs=[{"output_type": "display_data", "data": {"image/png": 5}}])
    raw(folder / "source.ipynb", source=None)
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [], "metadata": {}}]}
    (folder / "old.ipynb").write_text(json.dumps(old))
    (folder / "folder.ipynb").mkdir()
    with open(folder / "large.ipynb", "wb") as file:
        file.truncate(2**40)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.ipynb")
    grade(folder, tmp_path / "out", 0, Limits(), lines.append)
    said = {line.split(".ipynb: ")[0].split()[-1]: line.split(".ipynb: ")[1] for line in lines}
    expected = {
        "character": "1 of 6 points, cannot be executed as a notebook",
        "folder": "0 of 0 points, not a notebook (no file)",
        "large": "0 of 0 points, not a notebook (larger than 100 MB)",
        "old": "0 of 0 points, no exercises of the course in it",
        "picture": "1 of 6 points",
        "pipe": "0 of 0 points, not a notebook (no file)",
        "source": "0 of 0 points, not a notebook",
        "tags": "0 of 6 points, cannot be executed as a notebook",
    }
    assert {name: words[: len(expected[name])] for name, words in said.items()} == expected


def test_results_do_not_lie_among_the_notebooks(tmp_path, raises_user_error):
    write(tmp_path / "ada" / "04.ipynb", "1")
    with raises_user_error("would be graded too"):
        grade(tmp_path, tmp_path / "out", 0, Limits())
    with raises_user_error("must be above 0"):
        grade(tmp_path, tmp_path.parent / "out", 0, Limits(minutes=0))


def test_the_chapters_are_not_overwritten(raises_user_error):
    chapters = find_chapters(course_root())
    with raises_user_error("holds the chapters themselves"):
        write_edition(chapters, course_root() / "book" / ".." / "notebooks")


def test_a_folder_without_notebooks_is_named(tmp_path, raises_user_error):
    with raises_user_error(tmp_path, "a folder for each student"):
        grade(tmp_path / "in", tmp_path / "out", 0, Limits())
