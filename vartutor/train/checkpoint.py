"""Training states on disk, written whole or not at all; and weights as they are published."""

import os
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from vartutor.errors import UserError, first_line


def save_state(path: Path, state: dict) -> None:
    """Write a training state; the old file stays until the new one is complete.

    Raises:
        UserError: the folder is missing or the disk is full; the old file is intact.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({first_line(error)}); the last saved state is kept") from None


def load_state(path: Path) -> dict:
    """Read a training state.

    Raises:
        UserError: missing, or not a state that :func:`save_state` wrote.
    """
    if not path.is_file():
        raise UserError(f"{path}: no saved state to resume from")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds, some with pages of advice
        raise UserError(f"{path}: not a readable training state ({type(error).__name__})") from None


def packed(model: nn.Module) -> bytes:
    """A model's weights as a published file holds them: safetensors, float16."""
    return save({name: value.half().contiguous() for name, value in model.state_dict().items()})
