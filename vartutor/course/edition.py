"""Notebooks to hand out: without solutions, and with empty stubs."""

import ast
import re
from pathlib import Path

from nbformat import NotebookNode

from vartutor.course.chapters import Chapter, write_notebook
from vartutor.errors import UserError
from vartutor.paths import make_folder

FOLDED = re.compile(r"[ \t]*<details>.*?</details>[ \t]*\n?", re.S)  # the answers to questions
SOLUTION = re.compile(r"^\s*ch\d\d\.solution\(.*\)\s*$\n?", re.M)


def write_edition(chapters: list[Chapter], out: Path) -> list[Path]:
    """Write every chapter's notebook for students to ``out``; returns their paths.

    Raises:
        UserError: ``out`` is the folder of the chapters themselves.
    """
    if any(chapter.ipynb.parent.resolve() == out.resolve() for chapter in chapters):
        raise UserError(f"{out}: holds the chapters themselves; give another folder")
    make_folder(out)
    paths = []
    for chapter in chapters:
        paths.append(out / chapter.ipynb.name)
        write_notebook(without_solutions(chapter.read_executed()), paths[-1])
    return paths


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """The notebook, changed in place: figures stay; answers, hints that were opened and solutions go."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = FOLDED.sub("", cell.source)
        elif "exercise" in cell.metadata.get("tags", ()):
            cell.source, cell.outputs, cell.execution_count = with_stubs(cell.source), [], None
        elif re.search(r"^\s*ch\d\d\.(hint|solution)\(", cell.source, re.M):
            cell.source, cell.outputs, cell.execution_count = SOLUTION.sub("", cell.source).rstrip(), [], None
    return notebook


def with_stubs(source: str) -> str:
    """The cell, with ``return ...`` for the body of every function ``my_…``; as it is where it does not parse."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return source
    lines = source.splitlines()
    for node in reversed(body):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("my_"):
            lines[node.body[0].lineno - 1 : node.end_lineno] = ["    return ..."]
    return "\n".join(lines)
