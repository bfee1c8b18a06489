"""The model in the open: what the chapters define in their cells tagged ``model``, under the same names.

``from vartutor.open_code import conv, encode`` brings functions of chapter 02 into a later one, as they were last
saved there. The package itself does not use them.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vartutor.errors import UserError
from vartutor.paths import course_root

TAG = "model"


def model_cells(clone: Path | None = None) -> dict[str, list[str]]:
    """Chapter (``02``) -> the sources of its tagged cells, in order; ``UserError`` outside a clone."""
    found = {}
    for path in sorted(((clone or course_root()) / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if TAG in cell["metadata"].get("tags", ())]
        found |= {path.name[:2]: sources} if sources else {}
    return found


@lru_cache(maxsize=1)
def _names() -> dict[str, Any]:
    names = {"torch": torch, "np": np, "F": F}
    for sources in model_cells().values():
        for source in sources:
            exec(source, names)
    return names


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name not in _names():
        raise UserError(f"no cell tagged {TAG!r} defines {name!r}: it holds {', '.join(sorted(_names()))}")
    return _names()[name]
