"""What a run needs to go on, in one file, whole or not at all, whatever the number of processes that wrote it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from vartutor.errors import UserError, first_line
from vartutor.paths import whole

BEST = "best.pt"  # the averaged weights with the lowest held-out loss, beside the newest state


def save_state(path: Path, state: dict) -> None:
    """Write a state; the old file stays until the new one is complete.

    Raises:
        UserError: the folder is missing or the disk is full; the old file is intact.
    """
    try:
        with whole(path) as part:
            torch.save(state, part)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        kept = "; the last saved state is kept" if path.exists() else ""
        raise UserError(f"{path}: cannot be written ({first_line(error)}){kept}") from None


def broken(state: dict, model: nn.Module) -> str:
    """What is wrong with a state: a weight or moment that is no finite number, also in float16, as it is published."""
    learns = {name for name, _ in model.named_parameters()}
    for name, value in chain(*(state[part].items() for part in ("model", "averaged") if part in state)):
        if not (value.half() if name in learns else value).isfinite().all():
            return f"weights of {name} are no finite numbers, or far too large"
    for name, kept in state.get("optimizer", {}).items():
        if not all(value.isfinite().all() for value in kept.values()):
            return f"what the optimiser remembers of {name} is no finite number"
    return ""


def gathered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors on the CPU, of any shape, out of shards; every process must call it."""
    return {name: _whole(value) for name, value in tensors.items()}


def _whole(value: Tensor) -> Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu().clone()


def _local(value: Tensor) -> Tensor:
    """What this process holds of it."""
    return value.to_local() if isinstance(value, DTensor) else value


def _placed(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor on the device of ``like``, and in as many shards."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device_mesh.device_type), like.device_mesh, like.placements)
    return value.to(like.device)


@torch.no_grad()
def fill(own: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    """Copy whole tensors of any shape into those of the same names, sharded or not.

    Raises:
        KeyError, RuntimeError: other names or shapes.
    """
    if own.keys() != saved.keys():
        raise KeyError(min(own.keys() ^ saved.keys()))
    for name, value in own.items():
        if value.shape != saved[name].shape or value.dtype != saved[name].dtype:
            raise RuntimeError(f"{name} is {tuple(saved[name].shape)}, not {tuple(value.shape)}, or of another type")
        value.copy_(_placed(saved[name], value))


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """What the optimiser remembers of each weight, by name; nothing of a weight that never got a gradient."""
    known = {name: optimizer.state[p] for name, p in model.named_parameters() if p in optimizer.state}
    return {name: gathered(kept) for name, kept in known.items()}


def set_moments(model: nn.Module, optimizer: torch.optim.Optimizer, saved: dict[str, dict[str, Tensor]]) -> None:
    """Back from :func:`moments`."""
    fused = optimizer.defaults.get("fused")
    for name, p in model.named_parameters():
        for key, value in saved.get(name, {}).items():
            if value.shape != (() if key == "step" else p.shape):
                raise RuntimeError(f"{key} of {name} is {tuple(value.shape)}")
            # AdamW counts steps beside fused weights, else on the CPU.
            step = value.to(p.device) if fused else value
            optimizer.state[p][key] = step if key == "step" else _placed(value, p)


class Averages:
    """The moving average of a model's weights, each tensor in as many shards as the weight itself."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}
        pairs = [(_local(own), _local(now)) for own, now in zip(self.values.values(), self._now(), strict=True)]
        self.real = [pair for pair in pairs if pair[0].is_floating_point()]
        self.whole = [pair for pair in pairs if not pair[0].is_floating_point()]

    def _now(self) -> list[Tensor]:
        return [value.detach() for value in self.model.state_dict().values()]

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move towards the weights; whole numbers are copied."""
        torch._foreach_lerp_(*map(list, zip(*self.real, strict=True)), 1 - decay)
        for mean, value in self.whole:
            mean.copy_(value)

    @contextmanager
    def in_use(self) -> Iterator[nn.Module]:
        """The model, in evaluation mode, with its averaged weights meanwhile."""
        own, kept, was_training = self._now(), [value.clone() for value in self._now()], self.model.training
        with torch.no_grad():
            for value, mean in zip(own, self.values.values(), strict=True):
                value.copy_(mean)
            try:
                yield self.model.eval()
            finally:
                for value, before in zip(own, kept, strict=True):
                    value.copy_(before)
                self.model.train(was_training)
