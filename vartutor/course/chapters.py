"""Chapters on disk: ``NN_slug.py`` is edited by hand, ``NN_slug.ipynb`` is made from it."""

import base64
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from vartutor.errors import UserError, first_line
from vartutor.paths import whole

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass(frozen=True)
class Chapter:
    """One chapter, named by its .py file."""

    py: Path

    @property
    def name(self) -> str:
        return self.py.stem

    @property
    def ipynb(self) -> Path:
        return self.py.with_suffix(".ipynb")

    @property
    def poster(self) -> Path:
        """Where the picture of a cell tagged ``poster`` goes; README shows it."""
        return self.py.parents[1] / "assets" / "poster.jpg"

    def read_source(self) -> NotebookNode:
        """The notebook that the .py file describes, without outputs and with the same cell ids every time."""
        try:
            return with_fixed_ids(jupytext.read(self.py), self.name)
        except Exception as error:  # of the header, the text or its encoding
            raise UserError(f"{self.py}: not a chapter ({first_line(error)})") from None

    def read_executed(self) -> NotebookNode:
        """The committed notebook with its outputs."""
        try:
            return parse_notebook(self.ipynb.read_bytes())
        except UserError as error:
            raise UserError(f"{self.ipynb}: {error}") from None


def parse_notebook(content: bytes, strict: bool = True) -> NotebookNode:
    """A notebook out of a file's bytes; ``UserError`` if it is none, or, where that is ``strict``, not a valid one."""
    logger = logging.getLogger("traitlets")  # nbformat tells it, in many lines, what a notebook lacks
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
            if strict:
                nbformat.validate(notebook)
            return notebook
    except Exception as error:  # nbformat and its schema raise many kinds
        raise UserError(f"not a notebook ({first_line(error)[:200]})") from None
    finally:
        logger.disabled = before


def with_fixed_ids(notebook: NotebookNode, name: str) -> NotebookNode:
    """Number the cells; Jupytext would draw random ids. Also fix the kernel and drop what differs by machine."""
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"c{name[:2]}-{i:03d}"
    pairing = {"formats": "ipynb,py:percent"}
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "jupytext": pairing})
    notebook.nbformat_minor = 5
    return notebook


def find_poster(notebook: NotebookNode) -> bytes | None:
    """The JPEG of an executed cell that is tagged ``poster``; None where no cell is."""
    cells = (cell for cell in notebook.cells if "poster" in cell.metadata.get("tags", ()))
    found = (o.data["image/jpeg"] for cell in cells for o in cell.outputs if "image/jpeg" in o.get("data", ()))
    picture = next(found, None)
    return picture and base64.b64decode(picture)


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write whole or not at all."""
    with whole(path) as part:
        part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def find_chapters(root: Path, wanted: list[str] | None = None) -> list[Chapter]:
    """Chapters below ``root/notebooks`` in order: all, or those wanted by number (``1``, ``01``) or name.

    Raises:
        UserError: a wanted chapter does not exist.
    """
    chapters = [Chapter(p) for p in sorted((root / "notebooks").glob("*.py")) if re.match(r"\d\d_", p.name)]
    if not wanted:
        return chapters
    chosen = []
    for word in wanted:
        stem = Path(word).stem
        found = [c for c in chapters if stem == c.name or (stem.isdigit() and int(stem) == int(c.name[:2]))]
        if not found:
            raise UserError(f"unknown chapter {word!r}: choose from {', '.join(c.name for c in chapters)}")
        chosen += [c for c in found if c not in chosen]
    return chosen
