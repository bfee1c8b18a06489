"""Build the book: stage its pages and the executed chapters, run Sphinx, swap the result into place."""

import copy
import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vartutor.errors import UserError
from vartutor.open_code import model_cells

Notebook = dict[str, Any]

NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton", "sphinx_design", "sphinxcontrib.bibtex")
NOT_SOURCES = shutil.ignore_patterns("_build", "__pycache__", ".ipynb_checkpoints", ".doctrees")
IMAGES = ("image/png", "image/jpeg")


def build_book(
    root: Path, notebooks: Path | None = None, out: Path | None = None, strict: bool = False, repository: str = ""
) -> Path:
    """Build the HTML book; an interrupted or failed build leaves the old one as it was.

    Args:
        root: the clone, with ``book/``, ``notebooks/`` and ``assets/``.
        notebooks: folder of executed chapters; a chapter missing there is taken from ``root/notebooks``.
        out: folder of the finished book, ``root/build/book`` if left out.
        strict: a warning fails the build.
        repository: address of the public repository; then chapters get a button that opens them in Binder.

    Returns:
        Path of its ``index.html``.

    Raises:
        UserError: Sphinx is missing, a notebook is unreadable, or the build fails; the line names the first fault.
    """
    if not all(map(_installed, NEEDED)):
        raise UserError("the book needs the book extra: pip install -e '.[book]'")
    out = out or root / "build" / "book"
    chapters = executed_chapters(root / "notebooks", notebooks)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # The new book grows beside the old one, so that the swap is a rename on one file system.
        with (
            tempfile.TemporaryDirectory(dir=out.parent, prefix="book-stage-") as work,
            tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as fresh,
        ):
            source, html = Path(work, "source"), Path(fresh, "new")
            stage(root, chapters, source)
            _run_sphinx(source, html, out.with_name(f"{out.name}.log"), strict, repository)
            # The download button hands out the chapter itself, not its staged form.
            for path in chapters:
                shutil.copyfile(path, html / "_sources" / "notebooks" / path.name)
            _swap(html, out, Path(fresh, "old"))
    except OSError as error:
        raise UserError(f"{error.filename or out}: the book cannot be written ({error.strerror or error})") from None
    return out / "index.html"


def executed_chapters(committed: Path, executed: Path | None = None) -> list[Path]:
    """The ``NN_slug.ipynb`` files, sorted by name; those in ``executed`` win over the committed ones."""
    folders = [committed] if executed is None else [committed, executed]
    found = {path.name: path for folder in folders for path in folder.glob("[0-9][0-9]_*.ipynb")}
    return [found[name] for name in sorted(found)]


def stage(root: Path, chapters: list[Path], source: Path) -> None:
    """Put into ``source`` what Sphinx reads: the pages, the staged chapters, the diagrams, the photo credits."""
    shutil.copytree(root / "book", source, ignore=NOT_SOURCES)
    for page in source.glob("*.md"):
        # The pages lie beside assets/ in the clone and above it in the book.
        page.write_text(page.read_text(encoding="utf-8").replace("](../assets/", "](assets/"), encoding="utf-8")
    (source / "notebooks").mkdir(exist_ok=True)
    for path in chapters:
        try:
            notebook = stage_notebook(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a notebook that the book can show ({error})") from None
        (source / "notebooks" / path.name).write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
    diagrams = root / "assets" / "diagrams"
    if diagrams.is_dir():
        shutil.copytree(diagrams, source / "assets" / "diagrams")
    if (poster := root / "assets" / "poster.jpg").is_file():
        (source / "assets").mkdir(exist_ok=True)
        shutil.copy(poster, source / "assets")
    credits, table = source / "photo-credits.md", root / "assets" / "photos" / "ATTRIBUTION.csv"
    if credits.is_file() and table.is_file():
        with open(table, encoding="utf-8", newline="") as rows, open(credits, "a", encoding="utf-8") as page:
            page.write("\n" + photo_table(list(csv.DictReader(rows))))
    if (program := source / "whole-model.md").is_file():
        with open(program, "a", encoding="utf-8") as page:
            page.write(listing(model_cells(root)))


def stage_notebook(notebook: Notebook) -> Notebook:
    """An executed notebook (nbformat 4, as a dict) in the form that the book shows; the argument is left alone.

    Papermill's own cell, stderr and the outputs of cells tagged ``widget`` are dropped, and the figure of a
    cell gets its alt text and caption where MyST-NB looks for them.

    Raises:
        ValueError: a cell has two figures, to which MyST-NB can give only one caption.
    """
    notebook = copy.deepcopy(notebook)
    notebook["metadata"].pop("widgets", None)
    cells = [cell for cell in notebook["cells"] if "injected-parameters" not in _tags(cell)]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            _stage_code(cell, number)
        elif cell["cell_type"] == "markdown":
            # A chapter lies beside book/ in the clone and below its pages in the book.
            cell["source"] = "".join(cell["source"]).replace("](../book/", "](../")
    notebook["cells"] = cells
    return notebook


def _tags(cell: Notebook) -> list[str]:
    return cell["metadata"].get("tags", [])


def _stage_code(cell: Notebook, number: int) -> None:
    if "widget" in _tags(cell):
        cell["outputs"] = []
    kept, figures = [], []
    for output in cell["outputs"]:
        note = output.get("metadata", {}).get("vartutor", {})
        if note.get("role") == "caption" or output.get("name") == "stderr":
            continue
        kept.append(output)
        if "caption" in note:
            figures.append(output)
    cell["outputs"] = kept
    if len(figures) > 1:
        raise ValueError(f"cell {number} shows {len(figures)} figures: split it")
    for output in figures:
        note = output["metadata"]["vartutor"]
        alt = next(output["metadata"][kind].get("alt", "") for kind in IMAGES if kind in output["metadata"])
        figure = {key: note[key] for key in ("caption", "name") if key in note}
        cell["metadata"]["mystnb"] = {"image": {"alt": alt}, "figure": figure}


def photo_table(rows: list[dict[str, str]]) -> str:
    """Markdown table of the photographs' authors, licences, sources and changes."""
    lines = ["```{table}", ":class: credits", ""]
    lines += ["| File | Author | Licence | Source | Changes |", "|---|---|---|---|---|"]
    for row in rows:
        source, changes = row["source"], row["changes"].replace("->", " → ")
        link = f"[source](<{source}>)" if source.startswith("http") else source
        cells = (f"`{row['file']}`", row["author"], row["licence"], link, changes)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join([*lines, "```", ""])


def listing(cells: dict[str, list[str]]) -> str:
    """Markdown of the chapters' cells, by chapter: a heading and one block of code each."""
    return "".join(f"\n## Chapter {n}\n\n```python\n" + "\n\n\n".join(code) + "\n```\n" for n, code in cells.items())


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _run_sphinx(source: Path, html: Path, log: Path, strict: bool, repository: str) -> None:
    """Run Sphinx in a process of its own, so that its global state stays out of this one."""
    options = ["-q", "--no-color", "-b", "html", "-d", str(source.parent / "doctrees")]
    if strict:
        options += ["-W", "--keep-going"]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(html)]
    environment = {**os.environ, "VARTUTOR_REPOSITORY": repository}
    environment["TMPDIR"] = str(source.parent)  # where Sphinx leaves its crash reports
    with open(log, "w", encoding="utf-8") as file:
        failed = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
    if failed:
        text = log.read_text(encoding="utf-8", errors="replace").replace(f"{source}{os.sep}", "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # Either a warning of Sphinx or the last line of a traceback.
        fault = re.compile(r"(WARNING|ERROR|CRITICAL|Error|Exception): ")
        first = next(filter(fault.search, lines), lines[0] if lines else "Sphinx gave no reason")
        raise UserError(f"the book was not built: {first} (log: {log})")


def _swap(new: Path, out: Path, old: Path) -> None:
    """Rename ``new`` to ``out``; what was there goes to ``old``, or comes back if the rename fails."""
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
