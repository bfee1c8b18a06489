"""The notebook machinery, on small chapters made here and on the committed ones."""

import csv
import errno
import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from vartutor.cli import main
from vartutor.course.chapters import Chapter, find_chapters, find_poster
from vartutor.course.check import check
from vartutor.course.execute import PeakMemory, build, run
from vartutor.course.progress import sheet_of

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# ---\n# jupyter:\n#   jupytext:\n#     formats: ipynb,py:percent\n# ---\n\n"
PARAMETERS = '# %% tags=["parameters"]\nPROFILE = "cpu"\nSEED = 0\nDEVICE = "cpu"\n\n'
PROSE = "# %% [markdown]\n# # Title\n# " + "word " * 160 + "\n\n"
GOOD = HEADER + PROSE + PARAMETERS + "# %%\nprint(PROFILE, SEED)\n"


def make_root(folder: Path, **chapters: str) -> Path:
    (folder / "notebooks").mkdir(parents=True)
    (folder / "book").mkdir()
    (folder / "book" / "conf.py").write_text("")
    for name, text in chapters.items():
        (folder / "notebooks" / f"{name[1:]}.py").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A root whose chapter 00 is built; tests copy what they spoil."""
    root = make_root(tmp_path_factory.mktemp("course"), _00_good=GOOD)
    build(find_chapters(root)[0])
    return root


@pytest.fixture
def chapter(built, tmp_path):
    root = make_root(tmp_path, _00_good=GOOD)
    (root / "notebooks" / "00_good.ipynb").write_bytes((built / "notebooks" / "00_good.ipynb").read_bytes())
    return find_chapters(root)[0]


def spoil(chapter: Chapter, change) -> list[str]:
    notebook = chapter.read_executed()
    change(notebook)
    nbformat.write(notebook, chapter.ipynb)
    return check(chapter)


# --- the committed chapters ------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", find_chapters(ROOT), ids=lambda chapter: chapter.name)
def test_committed_chapters_pass_every_check(chapter):
    assert check(chapter) == []


@pytest.mark.parametrize("chapter", find_chapters(ROOT), ids=lambda chapter: chapter.name)
def test_chapters_have_the_agreed_form(chapter):
    text = "\n".join(cell.source for cell in chapter.read_executed().cells if cell.cell_type == "markdown")
    assert re.match(rf"# {chapter.name[:2]} · \w", text)
    parts = ("you will be able to", "last verified", "What you should see", "## What breaks if", "★★★",
             "## Questions", "## An open experiment", "## In five lines", "## The course and the paper",
             "## References")  # fmt: skip
    assert [part for part in parts if part not in text] == []
    recap = text.split("## In five lines")[1].split("## ")[0]
    assert len(re.findall(r"^\d\. ", recap, re.M)) == 5


@pytest.mark.parametrize("chapter", find_chapters(ROOT), ids=lambda chapter: chapter.name)
def test_chapters_ask_five_questions_and_one_experiment(chapter):
    text = "\n".join(cell.source for cell in chapter.read_source().cells if cell.cell_type == "markdown")
    asked, experiment = text.split("## Questions")[1].split("## In five lines")[0].split("## An open experiment")
    assert asked.count("<details>") == asked.count("</details>") == 5
    rubric = experiment.split("A good answer")[1]
    assert len(re.findall(r"^- .+[;.]$", rubric, re.M)) >= 4


@pytest.mark.parametrize("chapter", find_chapters(ROOT), ids=lambda chapter: chapter.name)
def test_exercises_say_how_hard_they_are_and_how_long_they_take(chapter):
    said = {}
    for before, cell in pairwise(chapter.read_source().cells):
        if "exercise" in cell.metadata.get("tags", ()):
            stars, minutes = re.findall(r"^\*\*(★+) [^*]+ · (\d+) min\.\*\*", before.source, re.M)[-1]
            said[re.search(r'\.(?:use|check)\("(\w+)"', cell.source).group(1)] = len(stars), int(minutes)
    exercises = sheet_of(f"ch{chapter.name[:2]}").exercises
    assert said == {name: (exercise.stars, exercise.minutes) for name, exercise in exercises.items()}
    assert len(said) >= 3


@pytest.mark.parametrize("chapter", find_chapters(ROOT), ids=lambda chapter: chapter.name)
def test_chapters_link_only_to_files_that_exist(chapter):
    text = "\n".join(cell.source for cell in chapter.read_source().cells if cell.cell_type == "markdown")
    local = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith(("https:", "#"))]
    assert [target for target in local if not (chapter.py.parent / target).is_file()] == []


def test_every_chapter_runs_with_the_smoke_profile(tmp_path):
    results = run(
        find_chapters(ROOT), tmp_path, {"PROFILE": "smoke", "SEED": 1, "DEVICE": "cpu"}, report=lambda _: None
    )
    assert [r.error for r in results] == [""] * len(results)


# --- building --------------------------------------------------------------------------------------


def test_build_gives_equal_bytes_twice(chapter):
    first = chapter.ipynb.read_bytes()
    build(chapter)
    assert chapter.ipynb.read_bytes() == first
    assert check(chapter) == []


def test_build_stores_nothing_of_the_machine(chapter):
    notebook = json.loads(chapter.ipynb.read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "jupytext"}
    assert [cell["id"] for cell in notebook["cells"]] == ["c00-000", "c00-001", "c00-002"]
    assert all("execution" not in cell["metadata"] for cell in notebook["cells"])


def test_a_failing_chapter_keeps_its_old_notebook(chapter, raises_user_error):
    before = chapter.ipynb.read_bytes()
    chapter.py.write_text(GOOD + "\n# %%\nprint(undefined)\n")
    with raises_user_error("00_good", "In [3]", "NameError", "undefined"):
        build(chapter)
    assert chapter.ipynb.read_bytes() == before
    assert [path.name for path in chapter.py.parent.iterdir() if path.suffix == ".part"] == []


def test_the_poster_is_the_chapters_picture(tmp_path):
    figure = """
# %% tags=["poster"]
import matplotlib.pyplot as plt

from vartutor.show.figures import show

show(plt.figure(figsize=(1, 1)), "a poster", "A white square, and nothing else to be seen in it.", photo=True)
"""
    root = make_root(tmp_path, _00_good=GOOD + figure)
    (root / "assets").mkdir()
    (chapter,) = find_chapters(root)
    build(chapter)
    assert chapter.poster.read_bytes().startswith(b"\xff\xd8")
    assert check(chapter) == []
    unexecuted = chapter.read_source()
    assert find_poster(unexecuted) is None
    chapter.poster.write_bytes(b"another")
    assert check(chapter) == ["00_good: assets/poster.jpg is not this chapter's picture; run: vartutor build 00_good"]


def test_widget_outputs_are_not_stored(tmp_path):
    text = '# %% tags=["widget", "nbval-ignore-output"]\nimport ipywidgets\nipywidgets.IntSlider()\n'
    chapter = find_chapters(make_root(tmp_path, _00_widget=GOOD + "\n" + text))[0]
    build(chapter)
    notebook = chapter.read_executed()
    assert notebook.cells[-1].outputs == []
    assert "widgets" not in notebook.metadata


# --- checking --------------------------------------------------------------------------------------


def set_source(notebook):
    notebook.cells[-1].source += " "


def set_count(notebook):
    notebook.cells[-1].execution_count = 7


def never_ran(notebook):
    for cell in notebook.cells[1:]:
        cell.execution_count, cell.outputs = None, []


def set_error(notebook):
    notebook.cells[-1].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])]


def set_stderr(notebook):
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stderr", text="careful\n")]


def set_path(notebook):
    notebook.cells[-1].outputs[0].text = "/home" + "/somebody/x.png"


def set_size(notebook):
    notebook.cells[-1].outputs[0].text = "x" * 1_010_000


def set_id(notebook):
    notebook.cells[-1]["id"] = "random"


def add_cell(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell("more"))


def set_metadata(notebook):
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7"}


def picture(alt="", caption=""):
    metadata = {"image/png": {"alt": alt}, "vartutor": {"caption": caption}}
    return nbformat.v4.new_output("display_data", {"image/png": "aGk="}, metadata=metadata)


def add_bare_picture(notebook):
    notebook.cells[-1].outputs.append(picture())


def add_two_pictures(notebook):
    notebook.cells[-1].outputs += [picture("a" * 30, "seen"), picture("b" * 30, "seen")]


def add_widget(notebook):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    notebook.cells[-1].outputs.append(nbformat.v4.new_output("display_data", data))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (set_source, "cell 2 differs between .py and .ipynb"),
        (set_count, "not executed from top to bottom"),
        (never_ran, "not executed from top to bottom"),
        (set_error, "holds an error: ValueError"),
        (set_stderr, "printed to stderr: careful"),
        (set_path, "prints a path of this machine"),
        (set_size, "over 1000"),
        (set_id, "cell ids are not the numbered ones"),
        (add_cell, ".py has 3 cells, .ipynb has 4"),
        (set_metadata, "notebook metadata"),
        (add_bare_picture, "without alt text or caption"),
        (add_two_pictures, "shows 2 figures"),
        (add_widget, "holds a widget"),
    ],
)
def test_check_finds_what_is_wrong_with_outputs(chapter, change, problem):
    assert any(problem in line for line in spoil(chapter, change))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD.replace('tags=["parameters"]', 'tags=["parametres"]'), "unknown tags: parametres"),
        (GOOD.replace('DEVICE = "cpu"\n', ""), "must set exactly PROFILE, SEED, DEVICE"),
        (GOOD + "\n# %%\n" + "x = 1\n" * 41, "a code cell of 41 lines"),
        (
            GOOD + "\n# %%\n" + "x = 1\n" * 20 + "\n# %%\n" + "y = 1\n" * 20 + "\n# %%\n" + "z = 1\n" * 20,
            "in the median",
        ),
        (GOOD + "\n# %% [markdown]\n# It is " + "so " * 31 + "long.\n", "a sentence of 34 words"),
        (GOOD.replace("word ", "", 150), "words of prose per code cell"),
        (GOOD + "\n# %%\nprint(2.75)\n\n# %% [markdown]\n# It is 2.75.\n", "prose says 2.75"),
        (GOOD + "\n# %% [markdown]\n# ![short](x.png)\n", "needs an alt text"),
        (GOOD + f"\n# %% [markdown]\n# ![{'a' * 30}](https://example.org/x.png)\n", "not a file of this repository"),
        (GOOD + '\n# %% tags=["widget"]\n1\n', "needs the tag nbval-ignore-output"),
    ],
)
def test_check_finds_what_is_wrong_with_a_chapter(tmp_path, text, problem):
    chapter = find_chapters(make_root(tmp_path, _00_bad=text))[0]
    build(chapter)
    assert any(problem in line for line in check(chapter)), check(chapter)


def test_every_chapter_says_where_it_stands():
    chapters = find_chapters(ROOT)
    ways = []
    for number, chapter in enumerate(chapters):
        (line,) = re.findall(r"^# \*\*You are here\.\*\* (.*)$", chapter.py.read_text(encoding="utf-8"), re.M)
        steps = line.split(" → ")
        assert [step.strip("[*")[:2] for step in steps] == [f"{n:02}" for n in range(1, 13)]
        for n, step in enumerate(steps, 1):
            assert step.startswith("**") == (n == number)
            assert n == number or step.endswith(f"]({chapters[n].ipynb.name})")
        ways.append(re.sub(r"\]\(.*?\)|[\[*]", "", line))
    assert len(set(ways)) == 1


def test_check_asks_for_the_missing_notebook(tmp_path):
    chapter = find_chapters(make_root(tmp_path, _00_good=GOOD))[0]
    assert check(chapter) == ["00_good: no .ipynb; run: vartutor build 00_good"]


def test_a_version_in_prose_is_not_a_measured_number(tmp_path):
    text = GOOD + "\n# %%\nprint('torch 2.13.0, loss 2.13')\n\n# %% [markdown]\n# Verified with torch 2.13.\n"
    chapter = find_chapters(make_root(tmp_path, _00_version=text))[0]
    build(chapter)
    assert check(chapter) == []


# --- running ---------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path, monkeypatch):
    """A root with a failing and a good chapter, as the working folder."""
    bad = GOOD.replace("print(PROFILE, SEED)", "raise ValueError('too big')")
    monkeypatch.chdir(make_root(tmp_path / "root", _00_bad=bad, _01_good=GOOD))
    return tmp_path / "out"


def test_a_failing_chapter_is_named_and_the_others_run(two, capsys):
    assert main(["run", "--profile", "smoke", "--seed", "3", "--out", str(two)]) == 1
    printed = capsys.readouterr()
    assert re.search(r"00_bad .*FAILED at In \[\d\]: ValueError: too big", printed.out)
    assert "1 of 2 chapters failed: 00_bad" in printed.err
    assert sorted(path.name for path in two.iterdir()) == [
        "00_bad.html", "00_bad.ipynb", "01_good.html", "01_good.ipynb", "summary.csv", "summary.md"]  # fmt: skip
    with open(two / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["ok"] for row in rows] == ["False", "True"]
    assert float(rows[1]["peak_mb"]) > 20
    assert "PROFILE = smoke, SEED = 3, DEVICE = cpu" in (two / "summary.md").read_text()
    assert "smoke 3" in (two / "01_good.ipynb").read_text()


def test_a_second_run_replaces_what_a_stopped_one_left(two):
    two.mkdir()
    (two / "01_good.ipynb").write_text("half")
    assert main(["run", "1", "--out", str(two)]) == 0
    assert nbformat.read(two / "01_good.ipynb", as_version=4).cells
    assert not list(two.glob(".*"))


@pytest.mark.parametrize("argv", [["/opt/deleted-venv/bin/python", "-m", "ipykernel"], [sys.executable, "-c", "1/0"]])
def test_a_kernel_that_does_not_start_is_one_line_per_chapter(two, tmp_path, monkeypatch, capsys, argv):
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    spec = {"argv": [*argv, "-f", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setattr("vartutor.course.execute.QUIET_KERNEL", {"start_timeout": 5})
    assert main(["run", "1", "--out", str(two)]) == 1
    printed = capsys.readouterr()
    assert re.search(r"01_good .*FAILED at .*\(vartutor doctor looks", printed.out)
    assert printed.err.splitlines()[-1] == "vartutor run: 1 of 1 chapters failed: 01_good"


def test_a_full_disk_is_one_line_per_chapter(two, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vartutor.course.execute.write_notebook", full)
    assert main(["run", "--out", str(two)]) == 1
    assert capsys.readouterr().out.count("FAILED at [Errno 28] No space left on device") == 2


def test_a_folder_that_may_not_be_written_is_found_first(two, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["run", "--out", str(two)]) == 2
    assert "out: cannot be made a folder (not writable)" in capsys.readouterr().err


def test_memory_of_children_is_seen():
    import subprocess

    with PeakMemory() as memory:
        subprocess.run([sys.executable, "-c", "x = bytearray(200_000_000); import time; time.sleep(0.5)"], check=True)
    assert memory.peak > 200_000_000


# --- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["run", "--profile", "cpuu"],
            "vartutor run: unknown profile 'cpuu': choose one of smoke, cpu, overnight, speedrun, gpu",
        ),
        (["run", "07"], "vartutor run: unknown chapter '07': choose from 00_bad, 01_good"),
        (["check", "no"], "vartutor check: unknown chapter 'no': choose from 00_bad, 01_good"),
        (["run", "--seed", "-4"], "vartutor run: seed -4: give a whole number from 0 to 9999"),
        (["run", "--device", "tpu"], "vartutor run: unknown device 'tpu': choose one of cpu, cuda, mps, auto"),
        (["run", "--out", "notebooks/00_bad.py"], "vartutor run: notebooks/00_bad.py: cannot be made a folder"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(two, capsys, words, line):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(line)
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("words", [["run", "--seed", "x"], ["fly"], [], ["run", "--speed", "9"]])
def test_wrong_options_are_one_line_and_exit_code_2(capsys, words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_outside_a_clone_the_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vartutor.paths.PACKAGE", tmp_path / "site-packages" / "vartutor")
    assert main(["check"]) == 2
    assert "clone the vartutor repository" in capsys.readouterr().err


def test_a_missing_extra_is_named(two, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "vartutor.course.execute")
    monkeypatch.setitem(sys.modules, "papermill", None)
    assert main(["run"]) == 2
    assert capsys.readouterr().err == "vartutor run: needs papermill: pip install -e '.[notebooks]'\n"


def test_check_and_build_from_the_command(two, capsys):
    assert main(["build", "1"]) == 0
    assert "1 chapters: ok" in capsys.readouterr().out
    assert main(["check"]) == 1
    assert "00_bad: no .ipynb" in capsys.readouterr().out


def test_chapters_are_chosen_by_number_or_name():
    names = [
        chapter.name for chapter in find_chapters(ROOT, ["1", "00_start_here", "01", "notebooks/00_start_here.py"])
    ]
    assert names == ["01_photos_degradations_metrics", "00_start_here"]
