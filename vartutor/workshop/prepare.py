"""From the name of a photo set, or a folder of photos, to pieces in one file."""

import io
import json
import sys
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PurePosixPath

from vartutor.data.folders import is_photo
from vartutor.data.images import read_image, to_uint8
from vartutor.data.tiles import INDEX, TILES, load_set
from vartutor.errors import UserError, first_line
from vartutor.paths import make_folder, sha256_of, whole
from vartutor.workshop.commons import fetch_listed, read_list
from vartutor.workshop.download import download
from vartutor.workshop.sets import PhotoSet

CHECKSUMS = "checksums.json"
LARGEST_FILE = 2**29  # bytes of a photo: what unpacks to more is none
# The third and fourth are what zipfile says of a password, and of a compression that it does not know.
BROKEN_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError, EOFError, zlib.error)
Piece = tuple[tuple[int, int], bytes]  # height and width, and 3 · height · width bytes


def terms(photos: PhotoSet) -> str:
    """What a set is and under which terms, to be shown before anything is fetched."""
    sizes = [file.size for file in photos.files]
    size = f", {sum(sizes) / 1e9:.1f} GB to download" if sizes and all(sizes) else ""
    if not photos.licence:
        return f"{photos.name}: {photos.what}"
    return f"{photos.name}: {photos.what}; {photos.photos} photos{size}\n  licence: {photos.licence}\n  {photos.home}"


def prepare(
    photos: PhotoSet, out: Path, *, source: Path | None = None, tile: int = 1024, least: int = 512, workers: int = 1
) -> str:
    """Fetch a set unless its photos are at hand, and write its pieces to ``out/NAME``.

    Args:
        source: folder or archive with the set's photos, instead of downloading.
        tile, least: see :func:`cut_photo`.
        workers: processes that cut.

    Returns:
        one line on what was done.

    Raises:
        UserError: a set that no program can fetch, no connection, no space, a wrong checksum, no usable photo.
    """
    folder = out / photos.name
    if there := _count(folder, tile):
        return f"{photos.name}: {there} pieces are there already"
    if source is not None:
        archives = [source]
    elif photos.listed:
        archives = [out / "downloads" / photos.name]
        if missing := fetch_listed(read_list(), archives[0]):
            print(f"{photos.name}: {missing}", file=sys.stderr)
    elif photos.files:
        archives = [_fetch(photos, number, out) for number in range(len(photos.files))]
    else:
        where = f": {photos.how} ({photos.home}); then" * bool(photos.home)
        raise UserError(f"{photos.name}: no program may fetch it{where or ':'} add --from PATH of its photos")
    skipped = write_set(_read(archives, photos), folder, tile=tile, least=least, workers=workers)
    return f"{photos.name}: {len(load_set(folder))} pieces in {folder}; {skipped} files skipped"


def cut_photo(content: bytes, tile: int, least: int) -> list[Piece]:
    """Cut an image file into pieces of at most ``tile`` pixels a side that cover it; none if it is unusable.

    Args:
        least: smallest side that a photo may have.
    """
    try:
        image = to_uint8(read_image(io.BytesIO(content)))
    except UserError:
        return []
    height, width = image.shape[-2:]
    if min(height, width) < least:
        return []
    corners = ((top, left) for top in _starts(height, tile) for left in _starts(width, tile))
    pieces = (image[:, top : top + tile, left : left + tile] for top, left in corners)
    return [(tuple(piece.shape[1:]), piece.numpy().tobytes()) for piece in pieces]


def _starts(length: int, tile: int) -> list[int]:
    """Even steps, so that the pieces overlap alike."""
    count = -(-length // tile)
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)] if length > tile else [0]


def write_set(photos: Iterable[bytes], out: Path, *, tile: int, least: int, workers: int = 1) -> int:
    """Cut image files and write their pieces and the index to ``out``, whole or not at all.

    Returns:
        how many photos were unusable.

    Raises:
        UserError: no usable photo, or the disk is full.
    """
    make_folder(out)
    (out / INDEX).unlink(missing_ok=True)  # it belongs to other pieces
    skipped, sizes = 0, []
    try:
        with whole(out / TILES) as part, open(part, "wb") as file:
            for pieces in _cut_all(photos, tile, least, workers):
                skipped += not pieces
                for size, content in pieces:
                    sizes.append(size)
                    file.write(content)
            if not sizes:
                raise UserError(f"{out}: no usable photo of at least {least} pixels a side; {skipped} were looked at")
        with whole(out / INDEX) as part:
            part.write_text(json.dumps({"tile": tile, "sizes": sizes}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); make room and run it again") from None
    return skipped


def _cut_all(photos: Iterable[bytes], tile: int, least: int, workers: int) -> Iterator[list[Piece]]:
    if workers <= 1:
        yield from (cut_photo(content, tile, least) for content in photos)
        return
    with ProcessPoolExecutor(workers) as pool:
        waiting = deque()
        for content in photos:  # few at a time: photos are large
            waiting.append(pool.submit(cut_photo, content, tile, least))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _count(folder: Path, tile: int) -> int:
    """How many pieces of a set there are; none if they are cut otherwise, or broken."""
    try:
        pieces = load_set(folder)
    except UserError:
        return 0
    return len(pieces) if json.loads((folder / INDEX).read_text(encoding="utf-8"))["tile"] == tile else 0


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


def _read(archives: list[Path], photos: PhotoSet) -> Iterator[bytes]:
    """Contents of the image files in folders and archives, in the order of their names."""
    left = photos.first
    for archive in archives:
        for content in _members(archive, photos.within):
            if left == 0:
                return
            left = None if left is None else left - 1
            yield content


def _members(archive: Path, within: str) -> Iterator[bytes]:
    def wanted(name: str, size: int) -> bool:
        path = PurePosixPath(name)
        hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
        return is_photo(path) and within in f"/{name}" and not hidden and size <= LARGEST_FILE

    try:
        if archive.is_dir():
            files = {path.relative_to(archive).as_posix(): path for path in archive.rglob("*") if path.is_file()}
            names = sorted(name for name, path in files.items() if wanted(name, path.stat().st_size))
            yield from (files[name].read_bytes() for name in names)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bag:
                yield from map(bag.read, sorted(i.filename for i in bag.infolist() if wanted(i.filename, i.file_size)))
        elif archive.is_file() and tarfile.is_tarfile(archive):
            with tarfile.open(archive) as bag:  # in the archive's order: seeking in a compressed one takes for ever
                for member in bag:
                    if member.isfile() and wanted(member.name, member.size):
                        yield bag.extractfile(member).read()
        else:
            raise UserError(f"{archive}: neither a folder nor a zip or tar file")
    except BROKEN_ARCHIVE as error:
        raise UserError(f"{archive}: broken ({first_line(error)}); fetch it again") from None
