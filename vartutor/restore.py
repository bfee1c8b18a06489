"""Restore photo files: many in, one folder out; a bad file stops nothing, and nothing is overwritten unasked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vartutor.data.folders import SUFFIXES
from vartutor.data.images import write_images
from vartutor.errors import UserError
from vartutor.paths import make_folder


@dataclass(frozen=True)
class Outcome:
    """What became of one file: the files written, or what was wrong."""

    source: Path
    written: tuple[Path, ...] = ()
    error: str = ""


def find_photos(sources: Sequence[Path]) -> list[Path]:
    """Files as they are named, and the photos directly inside folders, in order.

    Raises:
        UserError: a folder without photos.
    """
    found = []
    for source in sources:
        if not source.is_dir():
            found.append(source)
            continue
        inside = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise UserError(f"{source}: no photos in this folder ({', '.join(sorted(SUFFIXES))})")
        found += inside
    return found


def targets(source: Path, out: Path, scales: Sequence[int]) -> dict[int, Path]:
    """{scale: out/NAME_xSCALE.png}."""
    return {s: out / f"{source.stem}_x{s}.png" for s in scales}


def restore(
    sources: Sequence[Path],
    out: Path,
    upscale: Callable[[Path], dict],
    scales: Sequence[int],
    *,
    force: bool = False,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Restore every file.

    Args:
        sources: files.
        upscale: path -> {scale: Pillow image}.
        force: overwrite what is there.
        report: called after every file.

    Raises:
        UserError: two sources whose results would have the same name; nothing is done then.
    """
    names = {}
    for source in sources:
        if source.stem in names:
            raise UserError(f"{names[source.stem]} and {source} would both become {source.stem}_x….png")
        names[source.stem] = source
    make_folder(out)
    outcomes = []
    for source in sources:
        outcomes.append(_one(source, targets(source, out, scales), upscale, force))
        report(outcomes[-1])
    return outcomes


def _one(source: Path, paths: dict[int, Path], upscale: Callable[[Path], dict], force: bool) -> Outcome:
    present = [path for path in paths.values() if path.exists()]
    if present and not force:
        return Outcome(source, error=f"{present[0]}: exists; --force overwrites it")
    try:
        images = upscale(source)
        write_images({path: images[s] for s, path in paths.items()})
    except UserError as error:
        return Outcome(source, error=str(error))
    return Outcome(source, tuple(paths.values()))
