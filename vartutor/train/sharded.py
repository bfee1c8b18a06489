"""Training states in shards: every process writes what it holds, and any number of processes can read them."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor

from vartutor.errors import UserError, first_line
from vartutor.train.checkpoint import load_state, save_state
from vartutor.train.processes import Process

PREFIX, EXTRA = "step-", "extra.pt"


class Averages:
    """The moving average of a model's weights, each tensor in as many shards as the weight itself."""

    def __init__(self, model: nn.Module):
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors, by the names of the weights."""
        return self.values


def full(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors on the CPU out of shards; every process must call it."""
    whole = {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}
    return {name: value.detach().cpu() for name, value in whole.items()}


def save_sharded(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Averages,
    extra: dict[str, Any],
    process: Process,
) -> None:
    """Write ``folder/step-N``; it gets its name when it is complete, and only then the one before goes.

    Raises:
        UserError: the disk is full, or the folder is not writable; the state before is intact.
    """
    final = folder / f"{PREFIX}{step:08d}"
    temporary = folder / f"{final.name}.part"
    if process.rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    process.wait()
    failed = ""
    try:
        with _quiet():
            dcp.save(_gather(model, optimizer, averages), checkpoint_id=temporary)
    except (Exception, CheckpointException) as error:
        failed = _reason(error)
    if process.any(bool(failed)):
        if process.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"{final}: cannot be written ({failed or 'see the other process'}); the state before is kept")
    if process.rank == 0:
        save_state(temporary / EXTRA, extra)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        for old in _complete(folder):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
    process.wait()


def load_sharded(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, averages: Averages) -> dict:
    """Fill the model, the optimiser and the averages from the newest complete state; returns what else it holds.

    Raises:
        UserError: no state, an unreadable one, or one of another model.
    """
    path, extra = read_extra(folder)
    state = _gather(model, optimizer, averages)
    try:
        idle = _take_idle(state, path)
        with _quiet():
            dcp.load(state, checkpoint_id=path)
        state["optimizer"]["state"] |= idle
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    except (Exception, CheckpointException) as error:
        raise UserError(f"{path}: of another model, or not readable ({_reason(error)})") from None
    return extra


def read_extra(folder: Path) -> tuple[Path, dict]:
    """The newest complete state, and what it holds beside the shards.

    Raises:
        UserError: no state, or an unreadable one.
    """
    found = _complete(folder)
    if not found:
        raise UserError(f"{folder}: no saved state to resume from")
    return found[-1], load_state(found[-1] / EXTRA)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warning that a single process is alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _reason(error: BaseException) -> str:
    # torch wraps what the processes raise in an exception of its own, which is no Exception.
    inner = [raised for raised, _ in getattr(error, "failures", {}).values()]
    return first_line(inner[0] if inner else error)


def _gather(model: nn.Module, optimizer: torch.optim.Optimizer, averages: Averages) -> dict:
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments, "averaged": averages.state_dict()}


def _take_idle(state: dict, path: Path) -> dict:
    """Take out of ``state`` what the optimiser holds of weights that never got a gradient: that was not saved."""
    saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    moments = state["optimizer"]["state"]
    known = {key.rpartition(".")[0] for key in saved}
    idle = [name for name in moments if f"model.{name}" in saved and f"optimizer.state.{name}" not in known]
    return {name: moments.pop(name) for name in idle}


def _complete(folder: Path) -> list[Path]:
    """Saved states, oldest first."""
    return sorted(p for p in folder.glob(f"{PREFIX}*") if not p.name.endswith(".part") and (p / EXTRA).is_file())
