"""pyproject.toml, environment.yml, constraints.txt, Makefile, README and the code agree."""

import ast
import importlib
import json
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from vartutor.course.times import Time, read_times, with_times

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
# Two packages have other names on conda-forge; two of the tests' packages are not there and come from PyPI.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
ONLY_PYPI = {"playwright", "axe-playwright-python"}
ON_CONDA_FORGE = {
    "pytorch", "numpy", "pillow", "matplotlib-base", "safetensors", "tqdm", "packaging", "jupyterlab", "ipykernel",
    "ipywidgets", "jupytext", "papermill", "nbclient", "nbconvert", "nbformat", "psutil", "scikit-image", "sphinx",
    "myst-nb", "sphinx-book-theme", "sphinx-copybutton", "sphinx-design", "sphinxcontrib-bibtex", "pytest",
    "pytest-benchmark", "pytest-xdist", "hypothesis", "scipy", "nbval", "torchmetrics", "ruff", "hatchling", "pyyaml",
}  # fmt: skip


def wanted() -> dict[str, str]:
    lines = PROJECT["dependencies"] + [line for extra in ("notebooks", "book", "test") for line in EXTRAS[extra]]
    requirements = [Requirement(line) for line in lines]
    return {r.name: str(r.specifier) for r in requirements if r.name != "tomli"}  # needed below Python 3.11 only


def offered() -> tuple[dict[str, str], dict[str, str]]:
    conda = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    (pip,) = (entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))
    parse = lambda lines: {r.name: str(r.specifier) for r in map(Requirement, lines)}  # noqa: E731
    return parse(conda), parse(line for line in pip if not line.startswith("-e"))


def test_environment_yml_names_the_same_packages_and_bounds():
    conda, pip = offered()
    assert conda.pop("python") == PROJECT["requires-python"]
    assert conda.pop("pip") == ""
    expected = {CONDA_NAMES.get(name, name): bound for name, bound in wanted().items()}
    assert conda == {name: bound for name, bound in expected.items() if name not in ONLY_PYPI}
    assert pip == {name: bound for name, bound in expected.items() if name in ONLY_PYPI}


def test_environment_yml_uses_conda_forge_names_and_installs_the_package():
    conda, _ = offered()
    assert ENVIRONMENT["channels"] == ["conda-forge"]
    assert set(conda) - {"python", "pip"} <= ON_CONDA_FORGE
    assert "-e ." in ENVIRONMENT["dependencies"][-1]["pip"]


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_constraints_are_exact_allowed_and_without_torch():
    for pin in pins():
        assert re.fullmatch(r"==[\w.+!]+", str(pin.specifier)), pin
        assert not re.match(r"(torch|triton)$|(nvidia|cuda)-", pin.name), pin
        if bound := wanted().get(pin.name):
            assert Requirement(f"{pin.name}{bound}").specifier.contains(str(pin.specifier)[2:]), pin


def test_constraints_pin_every_dependency_for_every_python():
    for name in set(wanted()) - {"torch"}:
        for python in ("3.10", "3.11", "3.13"):
            for platform in ("linux", "darwin", "win32"):
                where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
                found = [p for p in pins() if p.name == name and (not p.marker or p.marker.evaluate(where))]
                assert len(found) == 1, (name, python, platform)


def test_the_makefiles_torch_is_allowed():
    (version,) = re.findall(r"^TORCH_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.M)
    assert Version(version) in Requirement(f"torch{wanted()['torch']}").specifier


def test_every_import_of_the_package_is_declared():
    distribution = {"PIL": "pillow", "skimage": "scikit-image", "IPython": "ipykernel", "jupyter_client": "ipykernel",
                    "DISTS_pytorch": "DISTS-pytorch", "yaml": "pyyaml", "torch_fidelity": "torch-fidelity"}  # fmt: skip
    optional = {"pyiqa"}  # named, never required: its licence is non-commercial
    declared = {Requirement(line).name for line in [*PROJECT["dependencies"], *chain(*EXTRAS.values())]}
    for path in (ROOT / "vartutor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in {m.split(".")[0] for m in modules if m} - {"vartutor"} - optional:
                known = module in sys.stdlib_module_names or distribution.get(module, module) in declared
                assert known, f"{path.name} imports {module}"


CORE = (
    "data.pairs",
    "data.presets",
    "data.folders",
    "metrics",
    "perceptual",
    "profiles",
    "weights.files",
    "doctor",
    "cli",
)


@pytest.mark.parametrize("module", CORE)
def test_the_core_needs_no_extra(module):
    extras = {Requirement(line).name for extra in ("notebooks", "book", "test") for line in EXTRAS[extra]}
    blocked = sorted({"skimage", "IPython", "ipywidgets", "sphinx", *extras})
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\nimport vartutor.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_and_makefile_agree():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.M))
    assert set(re.findall(r"make (\w+)", readme)) <= targets | {"takes"}
    assert {"course", "test", "lab", "book", "clean"} <= targets
    assert "--index-url https://download.pytorch.org/whl/cpu" in readme


def test_the_page_of_commands_has_all_of_them():
    from vartutor.cli import parser

    commands = set(parser()._subparsers._group_actions[0].choices)
    page = (ROOT / "book" / "commands.md").read_text()
    assert set(re.findall(r"`vartutor (\w+)", page)) == commands | {"COMMAND"}


@pytest.mark.parametrize("page", ["README.md", "book/index.md"])
@pytest.mark.parametrize("chapter", sorted((ROOT / "notebooks").glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_pages_list_every_chapter_as_it_calls_itself(page, chapter):
    text = chapter.read_text()
    title = re.search(r"^# # (.*)$", text, re.M)[1].split(":")[0]
    rows = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("| [")]
    (row,) = [line for line in rows if f"(notebooks/{chapter.stem}.ipynb)" in line]
    assert title in row


def test_the_instructors_page_names_exercises_and_chapters_that_exist():
    page = (ROOT / "book" / "instructors.md").read_text()
    mistakes = page.split("## What students get wrong")[1].split("##")[0]
    rows = re.findall(r"^\| (\d\d) \| `(\w+)`", mistakes, re.M)
    assert len(rows) > 10
    sheets = {f"{n:02}": importlib.import_module(f"vartutor.exercises.ch{n:02}").sheet.exercises for n in range(13)}
    assert all(name in sheets[chapter] for chapter, name in rows)
    weeks = page.split("## Ten weeks")[1].split("##")[0]
    assert set(re.findall(r"`(\w+)`", weeks)) <= {name for names in sheets.values() for name in names}
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        text = path.read_text()
        title = re.search(r"^# # (.*)$", text, re.M)[1].split(": prefer")[0]
        assert page.count(f"\n| {title} |") == 1


def test_times_are_said_alike_everywhere():
    times = read_times(ROOT)
    assert list(times) == [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))]
    for path, text in with_times(ROOT, times).items():
        assert path.read_text() == text, f"{path}: vartutor run --keep-times writes the times"
    slower = with_times(ROOT, {name: Time(time.seconds + 600, 7000) for name, time in times.items()})
    changed = {path.name for path, text in slower.items() if path.read_text() != text}
    pages = {"README.md", "index.md", "instructors.md"}
    assert changed == pages | {f"{name}.{kind}" for name in times for kind in ("py", "ipynb")}
    assert slower[ROOT / "README.md"].count("minutes |") == len(times)
    assert slower[ROOT / "book" / "instructors.md"].count("| 7.0 GB |") == len(times)


@pytest.mark.parametrize("page", ["README.md", "book/index.md"])
def test_the_poster_is_described_as_in_its_chapter(page):
    alt = re.search(r"!\[([^]]*)\]\((?:\.\./)?assets/poster\.jpg\)", (ROOT / page).read_text())[1].replace("\n", " ")
    (cell,) = [
        cell
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
        for cell in json.loads(path.read_text())["cells"]
        if "poster" in cell["metadata"].get("tags", ())
    ]
    (told,) = [output["metadata"]["image/jpeg"]["alt"] for output in cell["outputs"] if "image/jpeg" in output["data"]]
    assert alt == told


def test_readmes_python_examples_run_and_print_what_they_say():
    example = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S))
    claimed = float(re.search(r"# ([\d.]+) \[", example).group(1))
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[0]) == pytest.approx(claimed, abs=0.05)


def test_ci_runs_make_test_and_nothing_weaker():
    script = (ROOT / ".ci" / "run").read_text()
    assert script.rstrip().endswith("make test")
    assert "|| true" not in script
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow["jobs"]["pinned"]["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["pinned"]["steps"]]


def test_the_dev_container_installs_as_the_makefile_does():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    target = container["postCreateCommand"].removeprefix("make ")
    assert f"$(VENV)/{target.removeprefix('.venv/')}: " in (ROOT / "Makefile").read_text()
    assert container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"] == ".venv/bin/python"
