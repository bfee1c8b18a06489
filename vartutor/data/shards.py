"""Photos in shards: tar files in WebDataset's form, cut to pieces that decode fast, with an index for any order.

WebDataset streams shards and cannot return to the middle of an epoch; the index can, for any number of processes.
"""

import io
import json
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vartutor.data.crops import random_crop, vary
from vartutor.data.draws import photo_seeds, uniform
from vartutor.data.images import read_image, to_pil, to_uint8
from vartutor.data.order import shuffled
from vartutor.errors import UserError, first_line
from vartutor.paths import make_folder, whole

INDEX = "index.json"
Encoded = tuple[str, bytes]


def cut_photo(name: str, content: bytes, tile: int, least: int) -> list[Encoded]:
    """Cut an image file into PNG pieces of at most ``tile`` pixels a side that cover it; none if it is unusable.

    Args:
        least: smallest side that a photo may have.
    """
    try:
        image = read_image(io.BytesIO(content))
    except UserError:
        return []
    height, width = image.shape[-2:]
    if min(height, width) < least:
        return []
    pieces = []
    for top in _starts(height, tile):
        for left in _starts(width, tile):
            buffer = io.BytesIO()
            piece = to_pil(image[:, top : top + tile, left : left + tile])
            piece.save(buffer, "PNG", compress_level=1)
            pieces.append((f"{name}_{top}_{left}", buffer.getvalue()))
    return pieces


def _starts(length: int, tile: int) -> list[int]:
    """Even steps, so that the pieces overlap alike."""
    count = -(-length // tile)
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)] if length > tile else [0]


def write_shards(photos: Iterable[Encoded], out: Path, *, tile: int, least: int, workers: int = 1) -> int:
    """Cut image files, given as names and contents, and write ``shard-N.tar`` and the index to ``out``.

    Returns:
        how many photos were unusable.

    Raises:
        UserError: no usable photo, or the disk is full; without the index, the shards count for nothing.
    """
    import webdataset

    make_folder(out)
    (out / INDEX).unlink(missing_ok=True)
    for old in out.glob("shard-*.tar"):
        old.unlink()
    skipped = pieces = 0
    pattern = str(out).replace("%", "%%") + "/shard-%06d.tar"
    try:
        with webdataset.ShardWriter(pattern, maxsize=1e9, verbose=0, mtime=0) as writer:
            for number, cut in enumerate(_cut_all(photos, tile, least, workers)):
                skipped += not cut
                for name, content in cut:
                    writer.write({"__key__": f"{number:07d}_{name}", "png": content})
                    pieces += 1
        if not pieces:
            raise UserError(f"{out}: no usable photo of at least {least} pixels a side; {skipped} were looked at")
        _write_index(out, tile)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); make room and run it again") from None
    return skipped


def _cut_all(photos: Iterable[Encoded], tile: int, least: int, workers: int) -> Iterator[list[Encoded]]:
    if workers <= 1:
        yield from (cut_photo(name, content, tile, least) for name, content in photos)
        return
    with ProcessPoolExecutor(workers) as pool:
        waiting = deque()
        for name, content in photos:  # few at a time: photos are large
            waiting.append(pool.submit(cut_photo, name, content, tile, least))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_index(out: Path, tile: int) -> None:
    shards, pieces = sorted(path.name for path in out.glob("shard-*.tar")), []
    for number, name in enumerate(shards):
        with tarfile.open(out / name) as tar:
            pieces += [[number, member.offset_data, member.size] for member in tar if member.isfile()]
    with whole(out / INDEX) as part:
        part.write_text(json.dumps({"tile": tile, "shards": shards, "pieces": pieces}), encoding="utf-8")


class ShardedPhotos:
    """All pieces of all prepared sets in a folder.

    Raises:
        UserError: no index in the folder or right below it, or an unreadable one.
    """

    def __init__(self, folder: Path):
        self.pieces: list[tuple[Path, int, int]] = []
        for index in sorted([*folder.glob(INDEX), *folder.glob(f"*/{INDEX}")]):
            try:
                found = json.loads(index.read_text(encoding="utf-8"))
                shards = [index.parent / name for name in found["shards"]]
                self.pieces += [(shards[number], offset, size) for number, offset, size in found["pieces"]]
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                raise UserError(f"{index}: not readable ({first_line(error)}); prepare the set again") from None
        if not self.pieces:
            raise UserError(f"{folder}: no prepared photos; make them with vartutor data prepare NAME --out {folder}")

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, i: int) -> Tensor:
        """(3, H, W) uint8."""
        shard, offset, size = self.pieces[i]
        try:
            with open(shard, "rb") as file:
                file.seek(offset)
                return to_uint8(read_image(io.BytesIO(file.read(size))))
        except (OSError, UserError) as error:
            raise UserError(f"{shard}: not readable ({first_line(error)}); prepare the set again") from None


class CropStream(Dataset):
    """Crop ``number`` of an endless stream, which gives each piece once per epoch, in an order of its own.

    Args:
        photos: where pieces come from.
        size: side of a crop.
        augment: also turn and recolour crops, see :func:`vartutor.data.crops.vary`.
    """

    def __init__(self, photos: ShardedPhotos, size: int, seed: int, jitter: float = 2.0, augment: bool = False):
        self.photos, self.size, self.seed, self.jitter, self.augment = photos, size, seed, jitter, augment

    def __getitem__(self, number: int) -> Tensor:
        """(3, size, size) uint8."""
        image = self.photos[shuffled(number, len(self.photos), self.seed)]
        draws = uniform(photo_seeds(self.seed, torch.tensor([number])), 7)[0].tolist()
        crop = random_crop(image, self.size, self.jitter, draws[:4])[0]
        return to_uint8(vary(crop, draws[4:]) if self.augment else crop)
