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
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from vartutor.course import submission
from vartutor.course.chapters import parse_notebook
from vartutor.course.execute import tree_memory
from vartutor.course.progress import CHAPTERS, latest, read_attempts, sheet_of
from vartutor.errors import UserError, first_line
from vartutor.exercises.record import PLACE, SEED, Attempt
from vartutor.exercises.sheet import NOT_ATTEMPTED
from vartutor.paths import make_folder, whole
from vartutor.tables import write_table
from vartutor.train.options import from_plain

SHEETS = re.compile(r"from vartutor\.exercises import (ch\d\d(?:, ch\d\d)*)")
LARGEST_NOTEBOOK = 100_000_000  # of a notebook; the course's have less than a hundredth
FAULTS = {0: "", submission.NO_NOTEBOOK: "cannot be executed as a notebook"}  # any other: its kernel died


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
        text = page(student, [g for g in grades if g.student == student])
        try:
            with whole(out / student / "report.html") as part:
                part.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of folders may be any bytes
        except OSError as error:  # such as a folder of the student's with this name
            report(f"{student}: no page ({first_line(error)})")
    return grades


def _grades(path: Path, student: str, out: Path, seed: int, limits: Limits) -> tuple[list[Grade], str]:
    """The grades of one notebook, and what is wrong with it; whatever it is or does, the others go on."""
    try:
        make_folder(out)
        source = _read(path)
        found = {chapter for group in SHEETS.findall(_code(source)) for chapter in group.split(", ")}
        if not (chapters := sorted(found & set(CHAPTERS))):
            raise UserError("no exercises of the course in it")
        key = hashlib.sha256(source + f"{seed} {limits}".encode()).hexdigest()
        kept = out / f"{path.stem}.json"
        attempts, fault = _kept(kept, key) or _run(path, out, seed, limits)
        with whole(kept) as part:
            part.write_text(json.dumps({"key": key, "fault": fault, "attempts": [*map(vars, attempts)]}))
    except (OSError, UserError) as error:
        chapters, attempts, fault = [], [], first_line(error)
    last = latest(attempts)
    grades = [
        Grade(student, path.name, f"{chapter} {name}", *_worth(last.get((chapter, name)), exercise.stars))
        for chapter in chapters
        for name, exercise in sheet_of(chapter).exercises.items()
    ]
    return grades + [Grade(student, path.name, "", fault, 0, 0, 0.0)] * bool(fault), fault


def _read(path: Path) -> bytes:
    """A file's bytes; ``UserError`` if it is none, or larger than any notebook."""
    if not path.is_file():  # to read a pipe would take for ever
        raise UserError("not a notebook (no file)")
    if path.stat().st_size > LARGEST_NOTEBOOK:
        raise UserError(f"not a notebook (larger than {LARGEST_NOTEBOOK / 1e6:g} MB)")
    return path.read_bytes()


def _code(source: bytes) -> str:
    """The code of a notebook; ``UserError`` if it is none."""
    try:
        cells = parse_notebook(source, strict=False).cells  # what other programs write is not always valid
        return "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    except (AttributeError, TypeError):
        raise UserError("not a notebook (a cell without source)") from None


def _kept(path: Path, key: str) -> tuple[list[Attempt], str] | None:
    """What was found when the same notebook was run before; None if it was not."""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        if old["key"] == key:
            return [from_plain(Attempt, entry, "") for entry in old["attempts"]], str(old["fault"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def _run(path: Path, out: Path, seed: int, limits: Limits) -> tuple[list[Attempt], str]:
    """Execute a notebook in a folder that is thrown away; its attempts, and what went wrong."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        record, executed, work = (Path(folder, name) for name in ("record", "executed", "work"))
        work.mkdir()
        command = [sys.executable, "-m", submission.__name__, *map(str, (path.resolve(), executed, work, seed))]
        fault = _limited(command, os.environ | {PLACE: str(record), SEED: str(seed)}, limits)
        attempts, others = read_attempts(record)
        if executed.is_file():
            with whole(out / path.name) as part:
                shutil.copyfile(executed, part)
        return attempts, fault or (f"{others} lines of its record are no attempts" if others else "")


def _worth(attempt: Attempt | None, stars: int) -> tuple[str, int, int, float]:
    if attempt is None:
        return NOT_ATTEMPTED, 0, stars, 0.0
    return attempt.verdict, stars * attempt.ok, stars, attempt.seconds


def _limited(command: list[str], environment: dict[str, str], limits: Limits) -> str:
    """Run a command, and end all that it started; says what stopped it."""
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process = subprocess.Popen(command, env=environment, **quiet)
    tree = psutil.Process(process.pid)
    deadline, fault = time.monotonic() + 60 * limits.minutes, ""
    try:
        while process.poll() is None and not fault:
            time.sleep(0.1)
            if time.monotonic() > deadline:
                fault = f"stopped after {limits.minutes:g} minutes"
            elif tree_memory(tree, itself=True) > 1e9 * limits.gigabytes:
                fault = f"stopped at {limits.gigabytes:g} GB"
    finally:
        _end_all(environment[PLACE])
        process.kill()
        process.wait()
    return fault or FAULTS.get(process.returncode, "its kernel died")


def _end_all(place: str) -> None:
    """Kill every process of a submission, also one that left its parent: all inherit where the record is."""
    for _ in range(10):  # they may start others meanwhile
        found = [process for process in psutil.process_iter() if _place(process) == place]
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):  # it ended meanwhile
                process.kill()
        psutil.wait_procs(found, timeout=3)


def _place(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(PLACE)
    except (psutil.Error, OSError):  # of another user, or gone
        return None


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
