"""Weights as files: states of training runs, and published weights."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vartutor.errors import UserError, first_line
from vartutor.paths import assets, sha256_of

STATE = "state.pt"  # of a training run, in its folder
NET = "restorer."  # before the names of the weights of a transformer's restorer


# --- what the course ships -----------------------------------------------------------------------------


def manifest() -> dict[str, dict]:
    """``assets/checkpoints/manifest.json``: file name -> sha256 and where the weights come from; or ``UserError``."""
    path = assets() / "checkpoints" / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: entry | {"sha256": entry["sha256"]} for name, entry in found.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not readable ({first_line(error)}); git checkout -- assets/checkpoints") from None


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


# --- what runs leave, and what is published ------------------------------------------------------------


def load_state(path: Path) -> dict:
    """Read the state of a training run.

    Raises:
        UserError: missing, or not a state that a trainer wrote.
    """
    if not path.is_file():
        raise UserError(f"{path}: no saved state to resume from")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds, some with pages of advice
        raise UserError(f"{path}: not a readable training state ({type(error).__name__})") from None


def own_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights, without those of a net beneath it that has a file of its own."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(NET)}


def packed(model: nn.Module) -> bytes:
    """A model's own weights as a published file holds them: safetensors, float16."""
    return save({name: value.half().contiguous() for name, value in own_weights(model).items()})


def checksum(model: nn.Module) -> str:
    """sha256 of a model's published file, published or not."""
    return hashlib.sha256(packed(model)).hexdigest()


def ready(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The model with these weights in float16, for evaluation, without gradients; ``UserError`` if one is infinite."""
    names = model.state_dict().keys()  # without the moving averages of a codebook, which only training needs
    model.load_state_dict({name: value for name, value in weights.items() if name in names})
    model = model.half().float().eval().requires_grad_(False)
    if bad := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise UserError(f"{bad[0]} is not finite in float16: train it again, with a smaller loop.lr")
    return model
