"""The rooms of the package: small files, and imports that go downwards only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vartutor"
FILES = sorted(PACKAGE.rglob("*.py"))
# From the ground up; a file may import from its own line and from the lines above it.
FLOORS = [
    ["errors", "__init__"],
    ["paths", "profiles", "tables"],
    ["checkpoints", "data"],
    ["metrics", "perceptual", "metrics_extra", "tiling", "color"],
    ["tokenizer", "baselines"],
    ["transformer", "preference"],
    ["superres"],
    ["restore"],
    ["train"],
    ["plan", "evaluate"],
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
