"""Your own folder of photos as training data."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vartutor.data.images import HEIC, read_image
from vartutor.errors import UserError

# All that Pillow decodes by itself, and HEIC, which takes a package more.
ALONE_IT_CANNOT = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
READ = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN.keys() - ALONE_IT_CANNOT}
SUFFIXES = {*READ, *HEIC}


def visible(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """What lies in a folder, in order, without hidden files such as macOS's ``._IMG.JPG``.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        next(folder.iterdir(), None)  # glob takes a folder that it may not read for an empty one
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    names = ((path, path.relative_to(folder).parts) for path in sorted(folder.glob(pattern)))
    return (path for path, parts in names if not any(part.startswith(".") for part in parts))


def is_photo(path: Path) -> bool:
    """Whether a file's name is that of a photo."""
    return path.suffix.lower() in SUFFIXES


class PhotoFolder(Dataset):
    """All readable photos below a folder, in sorted order.

    Every file is decoded once when the folder is scanned, so that training never meets a broken one.
    Files that cannot be read, or are smaller than ``min_size``, are skipped and counted in one warning.

    Args:
        folder: searched with its subfolders for names with one of ``SUFFIXES``.
        min_size: least short side in pixels.

    Attributes:
        files: the usable files.
        skipped: file -> reason.

    Raises:
        UserError: no such folder, or no usable photo is left at the end of the scan.
    """

    def __init__(self, folder: str | Path, min_size: int = 64):
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        self.files: list[Path] = []
        self.skipped: dict[Path, str] = {}
        for path in filter(is_photo, visible(folder, "**/*")):
            reason = _fault(path, min_size)
            if reason:
                self.skipped[path] = reason
            else:
                self.files.append(path)
        if not self.files:
            reasons = "; ".join(list(self.skipped.values())[:2]) or "it holds no image files"
            raise UserError(f"{folder}: no usable photo, {len(self.skipped)} skipped ({reasons})")
        if self.skipped:
            path, reason = next(iter(self.skipped.items()))
            warnings.warn(
                f"{folder}: skipped {len(self.skipped)} of {len(self) + len(self.skipped)} files; the first: {reason}",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Tensor:
        """(3, H, W) in [-1, 1]."""
        return read_image(self.files[i])


def _fault(path: Path, min_size: int) -> str | None:
    try:
        height, width = read_image(path).shape[-2:]
    except UserError as error:
        return str(error)
    return f"{path}: {width} x {height} pixels, below {min_size}" if min(height, width) < min_size else None
