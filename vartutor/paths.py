"""Where the photographs, the checkpoints and the notebooks lie, in a clone and in an installed wheel."""

import errno
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vartutor.errors import UserError

PACKAGE = Path(__file__).resolve().parent


def assets() -> Path:
    """Folder with ``photos/``, ``checkpoints/`` and ``diagrams/``.

    A wheel carries it inside the package; a clone has it beside the package.
    """
    for folder in (PACKAGE / "assets", PACKAGE.parent / "assets"):
        if (folder / "photos" / "ATTRIBUTION.csv").is_file():
            return folder
    raise UserError(f"no assets beside {PACKAGE}: install vartutor again, or clone the repository whole")


def course_root() -> Path:
    """The clone that holds ``notebooks/`` and ``book/``: this folder or one above it, else the package's own.

    Raises ``UserError`` where only a wheel is installed, since a wheel carries no notebooks.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, PACKAGE.parent):
        if (folder / "notebooks").is_dir() and (folder / "book" / "conf.py").is_file():
            return folder
    raise UserError("no notebooks here: clone the vartutor repository and run this command inside it")


def make_folder(path: Path) -> None:
    """Make a folder for results, with its parents, unless it is there.

    Raises:
        UserError: a file is in the way, or the place is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "not writable")
    except OSError as error:
        raise UserError(f"{path}: cannot be made a folder ({error.strerror})") from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes ``path`` if the block ends well; if not, the old file stays and nothing else."""
    temporary = path.with_name(path.name[-40:] + ".part")  # no longer than the name itself, where that is long
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Checksum of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def commit() -> str:
    """Short hash of the clone's commit, with ``+`` after it where files have changed since; empty without git."""
    try:
        git = ["git", "-C", str(PACKAGE.parent)]
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + "+" * (changed.returncode != 0)
