"""Run notebooks that students handed in, and write down what their exercises are worth.

A notebook is a program: it can do whatever the account that grades may do. Each runs in a process of its own, with a
limit on time and memory; that protects against mistakes, not against malice. So grade in a container or as a user
without rights.
"""

import hashlib
import html
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient

from vartutor.course.chapters import write_notebook
from vartutor.course.execute import QUIET_KERNEL, tree_memory
from vartutor.course.progress import sheet_of
from vartutor.errors import UserError, first_line
from vartutor.exercises.record import PLACE, SEED, Attempt, latest, read_attempts
from vartutor.exercises.sheet import NOT_ATTEMPTED
from vartutor.paths import course_root, make_folder, whole
from vartutor.tables import write_table

SHEETS = re.compile(r"from vartutor\.exercises import (ch\d\d(?:, ch\d\d)*)")
CHILD = "import sys; from vartutor.course.grade import execute_submission; execute_submission(*sys.argv[1:])"


@dataclass(frozen=True)
class Grade:
    """One exercise of one student; ``points`` are its stars if it is solved."""

    student: str
    notebook: str
    exercise: str
    verdict: str
    points: int
    stars: int
    seconds: float


@dataclass(frozen=True)
class Limits:
    """What one notebook may use."""

    minutes: float = 10.0
    gigabytes: float = 6.0


def grade(folder: Path, out: Path, seed: int, limits: Limits, report: Callable[[str], None] = print) -> list[Grade]:
    """Run every notebook below ``folder`` at profile smoke; write ``grades.csv``, and a page for every student.

    A notebook that did not change since it was last graded with this seed is not run again.

    Args:
        folder: holds a folder for each student, or notebooks named after them.
        seed: of the notebooks and of the cases that checks draw.

    Raises:
        UserError: no notebook there, results among them, or a limit that is no positive number.
    """
    if not (limits.minutes > 0 and limits.gigabytes > 0):
        raise UserError(f"limits of {limits.minutes:g} minutes and {limits.gigabytes:g} GB: both must be above 0")
    if out.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{out}: lies in {folder}, where results would be graded too; give another folder")
    notebooks = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not notebooks:
        raise UserError(f"{folder}: no notebook there; it should hold a folder for each student")
    grades = []
    for path in notebooks:
        parts = path.relative_to(folder).parts
        student = parts[0] if len(parts) > 1 else path.stem
        found, fault = _grades(path, student, out.joinpath(student, *parts[1:-1]), seed, limits)
        grades += found
        report(f"{student} {path.name}: {_total(found)}{f', {fault}' if fault else ''}")
    write_table(out / "grades.csv", [field.name for field in fields(Grade)], map(astuple, grades))
    for student in dict.fromkeys(g.student for g in grades):
        with whole(out / student / "report.html") as part:
            part.write_text(page(student, [g for g in grades if g.student == student]), encoding="utf-8")
    return grades


def _grades(path: Path, student: str, out: Path, seed: int, limits: Limits) -> tuple[list[Grade], str]:
    """The grades of one notebook, and what stopped it, if anything did."""
    make_folder(out)
    try:
        source = path.read_bytes()
        cells = nbformat.reads(source.decode("utf-8"), as_version=4).cells
        found = SHEETS.findall("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    except Exception as error:  # nbformat and its schema raise many kinds
        return [], f"not a notebook ({first_line(error)})"
    chapters = sorted({chapter for group in found for chapter in group.split(", ")})
    key = hashlib.sha256(source + f"{seed} {limits}".encode()).hexdigest()
    kept = out / f"{path.stem}.json"
    try:
        old = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        old = {}
    if old.get("key") != key:
        started = out / f"{path.stem}.jsonl"
        started.unlink(missing_ok=True)
        command = [sys.executable, "-c", CHILD, str(path.resolve()), str((out / path.name).resolve()), str(seed)]
        fault = _limited(command, os.environ | {PLACE: str(started.resolve()), SEED: str(seed)}, limits)
        attempts = [vars(attempt) for attempt in read_attempts(started)]
        started.unlink(missing_ok=True)
        old = {"key": key, "fault": fault, "attempts": attempts}
        with whole(kept) as part:
            part.write_text(json.dumps(old, ensure_ascii=False), encoding="utf-8")
    attempts = latest(Attempt(**entry) for entry in old["attempts"])
    grades = [
        Grade(student, path.name, f"{chapter} {name}", *_worth(attempts.get((chapter, name)), exercise.stars))
        for chapter in chapters
        for name, exercise in sheet_of(chapter).exercises.items()
    ]
    return grades, old["fault"] or ("" if grades else "no exercises of the course in it")


def _worth(attempt: Attempt | None, stars: int) -> tuple[str, int, int, float]:
    if attempt is None:
        return NOT_ATTEMPTED, 0, stars, 0.0
    return attempt.verdict, stars * attempt.ok, stars, attempt.seconds


def _limited(command: list[str], environment: dict[str, str], limits: Limits) -> str:
    """Run a command; says what stopped it."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tree = psutil.Process(process.pid)
    deadline, fault = time.monotonic() + 60 * limits.minutes, ""
    while process.poll() is None and not fault:
        time.sleep(0.1)
        if time.monotonic() > deadline:
            fault = f"stopped after {limits.minutes:g} minutes"
        elif tree_memory(tree) > 1e9 * limits.gigabytes:
            fault = f"stopped at {limits.gigabytes:g} GB"
    if fault:
        for child in [*tree.children(recursive=True), process]:
            with suppress(psutil.Error):  # it ended meanwhile
                child.kill()
        process.wait()
    return fault or ("" if process.returncode == 0 else "its kernel died")


def execute_submission(source: str, target: str, seed: str) -> None:
    """Execute a notebook at profile smoke from top to bottom, whatever its cells raise; write it to ``target``."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = f'PROFILE = "smoke"\nSEED = {int(seed)}\nDEVICE = "cpu"'
    place = {"metadata": {"path": str(course_root() / "notebooks")}}
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", allow_errors=True, resources=place, **QUIET_KERNEL
    )
    try:
        client.execute()
    finally:
        write_notebook(notebook, Path(target))


def _total(grades: list[Grade]) -> str:
    return f"{sum(g.points for g in grades)} of {sum(g.stars for g in grades)} points"


def page(student: str, grades: list[Grade]) -> str:
    """One student's exercises as a page of HTML."""
    rows = "\n".join(_row(g) for g in grades)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(student)}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
td, th {{ text-align: left; vertical-align: top; padding: .3em 1em .3em 0 }}</style>
<h1>{html.escape(student)}: {_total(grades)}</h1>
<table><tr><th>exercise<th>points<th>verdict</tr>
{rows}
</table></html>
"""


def _row(g: Grade) -> str:
    return f"<tr><td>{html.escape(g.exercise)}<td>{g.points} of {g.stars}<td>{html.escape(g.verdict)}</tr>"
