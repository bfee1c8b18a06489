"""The rooms of the package: small files, and imports that go downwards only."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vartutor"
FILES = sorted(PACKAGE.rglob("*.py"))
# From the ground up; a file may import from its own line and from the lines above it.
FLOORS = [
    ["errors", "__init__"],
    ["paths", "profiles", "tables", "devices", "gpus"],
    ["data"],
    ["metrics", "vgg", "metrics_extra", "tiling"],
    ["tokenizer", "baselines"],
    ["transformer"],
    ["weights"],
    ["perceptual", "addons", "superres"],
    ["restore"],
    ["train"],
    ["evaluate"],
    ["plan", "workshop"],
    ["show"],
    ["exercises", "chapter", "open_code", "doctor"],
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


# --- shapes ----------------------------------------------------------------------------------------

# A shape is a bracket of at least two sides, or one and a comma: numbers, dots, these letters, these words, and what
# sums, products and quotients need. So (B, 3, H / 4, W / 4), (N,), (..., m) and (size, size) are shapes; (1, 2, 4),
# (x, y), (Wang et al., 2004), (mean, low, high) and, as a size alone, (height, width) are not.
LETTER = re.compile(r"[BCDHKLMNPSVWZbghkmnpswz](_\w)?²?")
SIDES = {"size", "side", "tile", "height", "width", "channels", "heads", "dim", "rows", "columns", "count"}
SIDES |= {"batch_size", "positions", "hidden", "waves", "scale", "patch²", "side²"}
# Values without sides are called that, and functions of single numbers say that they take all.
SCALAR = re.compile(r"\b(a scalar|scalars|any shape)\b")


def names_a_shape(text: str) -> bool:
    for bracket in re.findall(r"\(([^()]*,[^()]*)\)", text):
        words = re.findall(r"[^\W\d]\w*", bracket)
        rest = re.sub(r"[^\W\d]\w*", "", bracket)
        named = all(LETTER.fullmatch(word) or word in SIDES for word in words) and (words or "..." in rest)
        if named and not rest.strip("0123456789.,+-*/ \n") and bracket != "height, width":
            return True
    return SCALAR.search(text) is not None


def of_tensors(node: ast.AST) -> bool:
    """Whether an annotation of a function or of a field holds Tensor; states of models, by names, do not count."""
    if isinstance(node, ast.AnnAssign):
        found = [node.annotation]
    else:
        a = node.args
        every = (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg)
        found = [node.returns, *(argument.annotation for argument in every if argument)]
    words = [re.sub(r"(dict|Mapping)\[str, Tensor\]", "", ast.unparse(part)) for part in found if part]
    return any(re.search(r"\bTensor\b", word) for word in words)


CLASSES = {n.name: n for path in FILES for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)}


def inherited(owner: ast.ClassDef, name: str) -> str:
    """The docstring of a method, or of the one that it overrides."""
    own = [n for n in owner.body if isinstance(n, ast.FunctionDef) and n.name == name]
    bases = (CLASSES.get(getattr(base, "id", "")) for base in owner.bases)
    return (own and ast.get_docstring(own[0])) or next((inherited(base, name) for base in bases if base), "")


def shapeless(path: Path):
    """Public functions, methods and fields of tensors whose description names no shape."""
    text = path.read_text()
    lines = text.splitlines()
    for node in public(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            if of_tensors(node) and not names_a_shape(ast.get_docstring(node) or ""):
                yield node.name
            continue
        for part in node.body:
            if not isinstance(part, (ast.FunctionDef, ast.AnnAssign)) or not of_tensors(part):
                continue
            name = part.name if isinstance(part, ast.FunctionDef) else part.target.id
            if name.startswith("_") and not name.startswith("__"):
                continue
            # forward, fields and what stands between double bars may be described with their class.
            said = inherited(node, name) if isinstance(part, ast.FunctionDef) else lines[part.lineno - 1]
            if name == "forward" or name.startswith("__") or isinstance(part, ast.AnnAssign):
                said += ast.get_docstring(node) or ""
            if not names_a_shape(said):
                yield f"{node.name}.{name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_takes_or_gives_tensors_names_their_shapes(path):
    assert list(shapeless(path)) == []


@pytest.mark.parametrize("text", ["(B, 3, H / 4, W / 4)", "(N,)", "(..., m)", "{s: (B, C, h_s, w_s)}", "is a scalar."])
def test_a_shape_is_a_shape(text):
    assert names_a_shape(f"Some words {text} and more.")


@pytest.mark.parametrize(
    "text", ["(1, 2, 4)", "(x, y)", "(Wang et al., 2004)", "(height, width)", "(B)", "(8,)", "scalar multiples", "B, C"]
)
def test_other_brackets_are_none(text):
    assert not names_a_shape(f"Some words {text} and more.")


# --- names -----------------------------------------------------------------------------------------


def test_no_name_stands_for_two_things():
    places = defaultdict(set)
    for path in FILES:
        if room(path) == "exercises" and path.stem.startswith("ch"):
            continue  # the names are the chapter's own
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names = {node.name}
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            else:
                continue
            for name in names:
                if not name.startswith("_") and not (room(path) == "cli" and name == "add"):
                    places[name].add(path.relative_to(PACKAGE).as_posix())
    twice = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    assert twice == {}


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
    assert "addons" not in map(room, met)
    assert len(met) <= 52, rooms(met)
    assert total <= 5900, rooms(met)
