"""The rooms of the package: small files, and imports that go downwards only."""

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vartutor"
FILES = sorted(PACKAGE.rglob("*.py"))
# From the ground up; a file may import from its own line and from the lines above it.
FLOORS = [
    ["errors", "__init__"],
    ["paths", "profiles", "tables", "devices", "gpus"],
    ["checkpoints", "data"],
    ["metrics", "perceptual", "metrics_extra", "tiling", "color"],
    ["tokenizer", "baselines"],
    ["transformer", "preference"],
    ["weights"],
    ["addons", "superres"],
    ["restore"],
    ["train"],
    ["evaluate"],
    ["workshop"],
    ["show"],
    ["exercises", "chapter", "doctor"],
    ["course"],
    ["cli", "__main__"],
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vartutor":
            parts = node.module.split(".")[1:]
            modules |= {parts[0]} if parts else {alias.name for alias in node.names}
    return {module if module in FLOOR else "__init__" for module in modules}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    upwards = [module for module in imported(path) if FLOOR[module] > FLOOR[room(path)]]
    assert upwards == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_idea_of_at_most_300_lines(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= 300


def public(tree: ast.Module):
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_names_have_docstrings(path):
    if room(path) == "exercises" and path.stem.startswith("ch"):
        pytest.skip("solutions are shown to the reader as they are")
    # A data class of plain settings is explained by the comments on its fields.
    bare = [n.name for n in public(ast.parse(path.read_text())) if not ast.get_docstring(n)]
    assert bare == []


MEET = """
import ast, importlib, json, sys
from pathlib import Path
for path in sorted(Path("notebooks").glob("0*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vartutor":
            importlib.import_module(node.module)
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if importlib.util.find_spec(name.rpartition(".")[0]).submodule_search_locations:
                    try:
                        importlib.import_module(name)
                    except ModuleNotFoundError:
                        pass  # a function, not a module
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "vartutor" and m.__file__]))
"""


def rooms(paths) -> str:
    """Lines by room, the largest first."""
    lines = Counter()
    for path in paths:
        lines[room(path)] += len(path.read_text().splitlines())
    return ", ".join(f"{name} {count}" for name, count in lines.most_common())


def test_what_chapters_00_to_09_import_stays_small():
    """What a student meets without the exercises, imports of imports included."""
    done = subprocess.run([sys.executable, "-c", MEET], cwd=ROOT, capture_output=True, text=True, check=True)
    met = [path for path in map(Path, json.loads(done.stdout)) if room(path) != "exercises"]
    total = sum(len(path.read_text().splitlines()) for path in met)
    print(f"{len(met)} files, {total} lines: {rooms(met)}")
    assert len(met) <= 52, rooms(met)
    assert total <= 5900, rooms(met)
