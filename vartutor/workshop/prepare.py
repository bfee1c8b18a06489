"""From the name of a photo set, or a folder of photos, to shards."""

import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vartutor.data.folders import SUFFIXES
from vartutor.data.shards import INDEX, ShardedPhotos, write_shards
from vartutor.errors import UserError, first_line
from vartutor.paths import sha256_of
from vartutor.workshop.download import download
from vartutor.workshop.sets import PhotoSet

CHECKSUMS = "checksums.json"


def terms(photos: PhotoSet) -> str:
    """What a set is and under which terms, to be shown before anything is fetched."""
    sizes = [file.size for file in photos.files]
    size = f", {sum(sizes) / 1e9:.1f} GB to download" if sizes and all(sizes) else ""
    return f"{photos.name}: {photos.what}; {photos.photos} photos{size}\n  licence: {photos.licence}\n  {photos.home}"


def prepare(
    photos: PhotoSet, out: Path, *, source: Path | None = None, tile: int = 1024, least: int = 512, workers: int = 1
) -> str:
    """Fetch a set unless its photos are at hand, and write its shards to ``out/NAME``.

    Args:
        source: folder or archive with the set's photos, instead of downloading.
        tile, least: see :func:`vartutor.data.shards.cut_photo`.
        workers: processes that cut.

    Returns:
        one line on what was done.

    Raises:
        UserError: a set that no program can fetch, no connection, no space, a wrong checksum, no usable photo.
    """
    folder = out / photos.name
    if (folder / INDEX).is_file() and json.loads((folder / INDEX).read_text(encoding="utf-8"))["tile"] == tile:
        return f"{photos.name}: {len(ShardedPhotos(folder))} pieces are there already"
    if source is not None:
        archives = [source]
    elif photos.files:
        archives = [_fetch(photos, number, out) for number in range(len(photos.files))]
    else:
        raise UserError(
            f"{photos.name}: no program may fetch it: {photos.how} ({photos.home}); then add --from PATH of its photos"
        )
    skipped = write_shards(_read(archives, photos), folder, tile=tile, least=least, workers=workers)
    return f"{photos.name}: {len(ShardedPhotos(folder))} pieces in {folder}; {skipped} files skipped"


def _fetch(photos: PhotoSet, number: int, out: Path) -> Path:
    """Download one archive; its checksum must be the known one, or that of the first download."""
    file = photos.files[number]
    path, notes = out / "downloads" / file.name, out / "downloads" / CHECKSUMS
    seen = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    known = file.sha256 or seen.get(file.url)
    download(file.url, path, size=file.size, sha256=known)
    if known is None:
        notes.write_text(json.dumps(seen | {file.url: sha256_of(path)}, indent=2) + "\n", encoding="utf-8")
    return path


def _read(archives: list[Path], photos: PhotoSet) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the photos in folders and archives, in the order of their names."""
    left = photos.first
    for archive in archives:
        for name, content in _members(archive, photos.within):
            if left == 0:
                return
            left = None if left is None else left - 1
            yield PurePosixPath(name).stem.replace(".", "_"), content


def _members(archive: Path, within: str) -> Iterator[tuple[str, bytes]]:
    def wanted(name: str) -> bool:
        path = PurePosixPath(name)
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        return path.suffix.lower() in SUFFIXES and within in f"/{name}" and not hidden

    try:
        if archive.is_dir():
            files = {path.relative_to(archive).as_posix(): path for path in archive.rglob("*") if path.is_file()}
            yield from ((name, files[name].read_bytes()) for name in sorted(filter(wanted, files)))
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bag:
                yield from ((name, bag.read(name)) for name in sorted(filter(wanted, bag.namelist())))
        elif archive.is_file() and tarfile.is_tarfile(archive):
            with tarfile.open(archive) as bag:  # in the archive's order: seeking in a compressed one takes for ever
                for member in bag:
                    if member.isfile() and wanted(member.name):
                        yield member.name, bag.extractfile(member).read()
        else:
            raise UserError(f"{archive}: neither a folder nor a zip or tar file")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive}: broken ({first_line(error)}); fetch it again") from None
