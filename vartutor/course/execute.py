"""Execute chapters: into the committed notebooks (:func:`build`), or with papermill into a folder (:func:`run`)."""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import papermill
import psutil
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from vartutor.course.chapters import Chapter, find_poster, write_notebook
from vartutor.errors import UserError, first_line
from vartutor.paths import make_folder, whole
from vartutor.tables import write_table

QUIET_KERNEL = {"extra_arguments": ["--log-level=40"]}  # ipykernel greets on stderr otherwise
# Of a cell that takes too long, of a kernel that dies or does not start, and of a disk.
FAILURES = (CellTimeoutError, DeadKernelError, NoSuchKernel, RuntimeError, ValueError, OSError)
CELL_TIMEOUT = 1800  # seconds per cell: more than any chapter needs at the default profile


def build(chapter: Chapter) -> None:
    """Execute a chapter at the default profile and write its .ipynb, and its poster; two runs give equal bytes.

    Raises:
        UserError: a cell failed; the old notebook stays.
    """
    notebook = chapter.read_source()
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,  # else the kernel's timing decides how print lines are grouped
        resources={"metadata": {"path": str(chapter.py.parent)}},
        **QUIET_KERNEL,
    )
    try:
        client.execute()
    except (CellExecutionError, *FAILURES) as error:
        failed = [cell for cell in notebook.cells if cell.get("execution_count")]
        where = f"In [{failed[-1].execution_count}]" if failed else "the first cell"
        raise UserError(f"{chapter.name}, {where}: {_one_line(error)}") from None
    notebook.metadata.pop("language_info", None)  # holds the Python version of this machine
    for cell in notebook.cells:
        if "widget" in cell.metadata.get("tags", ()):
            cell.outputs = []  # a widget without its kernel is a random id
    write_notebook(notebook, chapter.ipynb)
    if picture := find_poster(notebook):
        with whole(chapter.poster) as part:
            part.write_bytes(picture)


@dataclass(frozen=True)
class Result:
    """What became of one chapter."""

    chapter: str
    ok: bool
    seconds: float
    peak_mb: float
    error: str = ""

    def __str__(self) -> str:
        line = f"{self.chapter:<42} {self.seconds:6.1f} s {self.peak_mb:6.0f} MB"
        return line if self.ok else f"{line}  FAILED at {self.error}"


def run(chapters: list[Chapter], out: Path, parameters: dict, report: Callable[[str], None] = print) -> list[Result]:
    """Execute chapters with papermill; a failing one does not stop the others.

    Writes ``NAME.ipynb`` and ``NAME.html`` for each, and ``summary.csv`` and ``summary.md``.

    Args:
        out: folder for the results, made if missing.
        parameters: PROFILE, SEED and DEVICE.
        report: called with one line per finished chapter.
    """
    make_folder(out)
    results = []
    for i, chapter in enumerate(chapters):
        results.append(_run_one(chapter, out, parameters, f"{i + 1}/{len(chapters)} {chapter.name}"))
        report(str(results[-1]))
    _write_summary(results, out, parameters)
    return results


def _run_one(chapter: Chapter, out: Path, parameters: dict, title: str) -> Result:
    started, error = time.perf_counter(), ""
    with PeakMemory() as memory:
        try:
            _execute(chapter, out, parameters, title)
        except PapermillExecutionError as failure:
            error = f"In [{failure.exec_count}]: {_one_line(failure)}"
        except FAILURES as failure:
            error = _one_line(failure)
    return Result(chapter.name, not error, round(time.perf_counter() - started, 1), round(memory.peak / 1e6), error)


def _execute(chapter: Chapter, out: Path, parameters: dict, title: str) -> None:
    """Write the chapter's notebook and page to ``out``, also where a cell fails."""
    with TemporaryDirectory() as folder:  # of its own, since the chapter may run twice at once
        source, target = Path(folder, "source.ipynb"), Path(folder, "executed.ipynb")
        write_notebook(chapter.read_source(), source)
        try:
            papermill.execute_notebook(
                source,
                target,
                parameters,
                kernel_name="python3",
                cwd=chapter.py.parent,
                execution_timeout=CELL_TIMEOUT,
                progress_bar={"desc": title, "leave": False, "disable": not sys.stderr.isatty()},
                **QUIET_KERNEL,
            )
        finally:
            if target.is_file():
                notebook = nbformat.read(target, as_version=4)
                html, _ = HTMLExporter(exclude_input_prompt=True).from_notebook_node(notebook)
                with whole(out / f"{chapter.name}.html") as part:
                    part.write_text(html, encoding="utf-8")
                write_notebook(notebook, out / f"{chapter.name}.ipynb")


def _one_line(error: Exception) -> str:
    if isinstance(error, (CellExecutionError, PapermillExecutionError)):
        return f"{error.ename}: {error.evalue}".splitlines()[0]
    if isinstance(error, CellTimeoutError):
        return f"the cell took longer than {CELL_TIMEOUT} s"
    if isinstance(error, (OSError, NoSuchKernel, DeadKernelError)) or "Kernel died" in str(error):
        return f"{first_line(error)} (vartutor doctor looks at the kernel and the disk)"
    return first_line(error)


def _write_summary(results: list[Result], out: Path, parameters: dict) -> None:
    write_table(out / "summary.csv", [field.name for field in fields(Result)], map(astuple, results))
    lines = [
        ", ".join(f"{key} = {value}" for key, value in parameters.items()),
        "",
        "| chapter | result | seconds | peak MB | error |",
        "|---|---|---|---|---|",
    ]
    for r in results:
        error = r.error.replace("|", "\\|")
        lines.append(f"| {r.chapter} | {'ok' if r.ok else 'FAILED'} | {r.seconds} | {r.peak_mb:.0f} | {error} |")
    try:
        (out / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({first_line(error)})") from None


class PeakMemory:
    """Largest memory of this process's children together, in bytes, sampled ten times a second."""

    def __enter__(self):
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.1):
            self.peak = max(self.peak, tree_memory(me))


def tree_memory(process: psutil.Process, itself: bool = False) -> int:
    """Bytes in memory of all descendants of a process, and of ``itself`` if asked; 0 where it is gone."""
    total = 0
    try:
        children = process.children(recursive=True) + [process] * itself
    except psutil.Error:
        return 0
    for child in children:
        try:
            total += _resident(child)
        except psutil.Error:  # it ended between the two calls
            continue
    return total


def _resident(process: psutil.Process) -> int:
    """Bytes in memory; pages that a fork still shares with its parent count once where the system tells (Linux)."""
    return process.memory_full_info().pss if psutil.LINUX else process.memory_info().rss
