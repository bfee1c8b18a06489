"""The weights that the course ships: where they lie, and whether they are intact."""

import json
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from vartutor.errors import UserError
from vartutor.paths import assets, sha256_of


def manifest() -> dict[str, dict]:
    """``assets/checkpoints/manifest.json``: file name -> sha256 and where the weights come from."""
    return json.loads((assets() / "checkpoints" / "manifest.json").read_text(encoding="utf-8"))


def checkpoint_name(kind: str, name: str) -> str:
    """File name of a shipped ``tokenizer``, ``transformer``, ``fidelity`` module, ``refiner`` or ``cnn``."""
    return f"{kind}_{name}.safetensors"


def shipped(kind: str) -> list[str]:
    """Names of the shipped models of a kind."""
    prefix, suffix = checkpoint_name(kind, "*").split("*")
    return sorted(file.removeprefix(prefix).removesuffix(suffix) for file in manifest() if file.startswith(prefix))


def checkpoint_path(name: str) -> Path:
    """Path of a shipped checkpoint.

    Raises:
        UserError: the manifest does not list it.
    """
    if name not in manifest():
        raise UserError(f"no checkpoint {name!r}: the manifest lists {', '.join(sorted(manifest()))}")
    return assets() / "checkpoints" / name


def intact(name: str) -> bool:
    """Whether the file is there with the sha256 of the manifest."""
    path = checkpoint_path(name)
    return path.is_file() and sha256_of(path) == manifest()[name]["sha256"]


@lru_cache(maxsize=8)
def load_checkpoint(name: str) -> dict[str, Tensor]:
    """The tensors of a shipped checkpoint, verified against the manifest and converted to float32.

    Raises:
        UserError: unknown, missing or changed since it was published.
    """
    if not intact(name):
        raise UserError(f"{checkpoint_path(name)}: missing or not the published file; restore it with git checkout")
    return {key: value.float() for key, value in load_file(checkpoint_path(name)).items()}
