"""Your own folder of photos as training data."""

import warnings
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from vartutor.data.images import read_image
from vartutor.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


class PhotoFolder(Dataset):
    """All readable photos below a folder, in sorted order.

    Every file is decoded once when the folder is scanned, so that training never meets a broken one.
    Files that cannot be read, or are smaller than ``min_size``, are skipped and counted in one warning.

    Args:
        folder: searched with its subfolders for the suffixes in ``SUFFIXES``.
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
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
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
