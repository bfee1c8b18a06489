"""Photos that ``vartutor data prepare`` has cut: the pieces of a set, byte for byte, in one file beside an index."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vartutor.errors import UserError, first_line

INDEX, TILES = "index.json", "tiles.bin"


def prepared_sets(folder: Path) -> list[Path]:
    """Folders of prepared sets: this one, and those right below it."""
    return sorted(index.parent for index in (*folder.glob(INDEX), *folder.glob(f"*/{INDEX}")))


def load_set(folder: Path) -> list[Tensor]:
    """The pieces of a prepared set, (3, H, W) uint8; each is read from the disk when it is looked at.

    Raises:
        UserError: no index, or files that do not fit each other.
    """
    try:
        sizes = json.loads((folder / INDEX).read_text(encoding="utf-8"))["sizes"]
        lengths = [3 * height * width for height, width in sizes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that nobody may write there
            pixels = torch.from_numpy(np.memmap(folder / TILES, np.uint8, "r"))
        if len(pixels) != sum(lengths):
            raise ValueError(f"{TILES} has another length")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / INDEX}: not readable ({first_line(error)}); prepare the set again") from None
    return [part.view(3, *size) for part, size in zip(pixels.split(lengths), sizes, strict=True)]
