"""Restore photo files: many in, one folder out; a bad file stops nothing, no photo is lost, no work is done twice."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from vartutor.data.folders import is_photo, visible
from vartutor.data.images import DECODER_ERRORS, write_images
from vartutor.errors import UserError, first_line, one_line
from vartutor.paths import make_folder, sha256_of

MARK = "vartutor"  # name of a text in every result: a checksum of its photo and of how it was restored


@dataclass(frozen=True)
class Outcome:
    """What became of one file: the files written, none if all were there; or what was wrong."""

    source: Path
    written: tuple[Path, ...] = ()
    error: str = ""


def find_photos(sources: Sequence[Path], tell: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Files as they are named, each once, and the photos directly inside folders, but no results; in order.

    Args:
        tell: called with a line for each folder of which something was left out.

    Raises:
        UserError: a folder without photos, or one that cannot be read.
    """
    found = []
    for source in sources:
        if not os.path.isdir(source):  # a Path would complain of names that are too long
            found.append(source)
            continue
        inside, others = [], []
        for path in visible(source):
            why = "a folder" if path.is_dir() else "a result" if _mark(path) else "" if is_photo(path) else "no photo"
            inside += [] if why else [path]
            others += [f"{path.name} ({why})"] if why else []
        left = f"left out {', '.join(others[:5])}{f' and {len(others) - 5} more' * (len(others) > 5)}"
        if not inside:
            raise UserError(f"{source}: no photos in this folder, such as .jpg or .png{f'; {left}' * bool(others)}")
        if others:
            tell(f"{source}: {left}")
        found += inside
    return list({os.path.abspath(path): path for path in found}.values())


def targets(source: Path, out: Path, scales: Sequence[int]) -> dict[int, Path]:
    """{scale: out/NAME_xSCALE.png}."""
    return {s: out / f"{source.stem}_x{s}.png" for s in scales}


def restore(
    sources: Sequence[Path],
    out: Path,
    upscale: Callable[[Path, tuple[int, ...]], dict],
    scales: Sequence[int],
    *,
    how: str = "",
    force: bool = False,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Restore every file, as far as its results are not there yet.

    Args:
        sources: files.
        upscale: path, scales -> {scale: Pillow image}.
        how: all that results depend on beside the photo; those made otherwise are none of this call.
        force: make results that are there again; pictures from elsewhere are never overwritten.
        report: called after every file.

    Raises:
        UserError: two sources whose results would have the same name; nothing is done then.
    """
    names = {}
    for source in sources:
        if source.stem in names:
            raise UserError(f"{names[source.stem]} and {source} would both become {source.stem}_x….png: rename one")
        names[source.stem] = source
    make_folder(out)
    outcomes, taken = [], set(map(os.path.realpath, sources))
    for source in sources:
        outcomes.append(_one(source, targets(source, out, scales), upscale, how, taken, force))
        report(outcomes[-1])
    return outcomes


def _one(source: Path, paths: dict[int, Path], upscale: Callable, how: str, taken: set[str], force: bool) -> Outcome:
    try:
        mark = sha256(f"{how} {sha256_of(source)}".encode()).hexdigest()
        missing = {s: path for s, path in paths.items() if not _is_there(path, mark, taken, force)}
        if missing:
            images, info = upscale(source, tuple(missing)), PngInfo()
            info.add_text(MARK, mark)
            write_images({path: images[s] for s, path in missing.items()}, pnginfo=info)
    except UserError as error:
        named = str(error).startswith(tuple(one_line(str(path)) for path in (source, *paths.values())))
        return Outcome(source, error=str(error) if named else f"{source}: {error}")
    except OSError as error:
        return Outcome(source, error=f"{source}: {(error.strerror or first_line(error)).lower()}")
    return Outcome(source, tuple(missing.values()))


def _is_there(path: Path, mark: str, taken: set[str], force: bool) -> bool:
    if os.path.realpath(path) in taken:
        raise UserError(f"{path}: a photo that is to be restored has this name: choose another --out")
    if not path.exists():
        return False
    found = _mark(path)
    if not found and _is_picture(path):
        raise UserError(f"{path}: a picture from elsewhere has this name: choose another --out")
    if found != mark and not force:
        other = " of another photo or with other options" if found else ""
        raise UserError(f"{path}: exists{other}; --force overwrites it")
    return not force


def _mark(path: Path) -> str:
    """The mark of a result; empty for anything else."""
    if path.suffix != ".png" or not path.is_file():
        return ""
    with open(path, "rb") as file:  # Pillow would refuse to open the largest results
        found = re.search(rb"tEXt%b\0([0-9a-f]{64})" % MARK.encode(), file.read(1024))
    return found[1].decode() if found else ""


def _is_picture(path: Path) -> bool:
    try:
        Image.open(path).close()
    except UnidentifiedImageError:
        return False
    except (*DECODER_ERRORS, Image.DecompressionBombError):
        pass
    return True
