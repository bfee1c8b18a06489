"""State dicts as other projects publish them: read, and loaded whole or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vartutor.errors import UserError, first_line

Source = str | Path | Mapping[str, Tensor]


@dataclass(frozen=True)
class Start:
    """What a model got from official weights, by the names of its tensors; ``unused`` are of the source."""

    taken: tuple[str, ...]
    resized: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        rows = [f"taken from VAR: {len(self.taken)} tensors"]
        named = {"resized": self.resized, "new": self.new, "not used": self.unused}
        return "\n".join(rows + [f"{what}: {', '.join(names)}" for what, names in named.items() if names])


def read_state_dict(source: Source) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, a .pth file (read with ``weights_only``), or a mapping.

    Raises:
        UserError: missing, unreadable, or not a flat dictionary of tensors.
    """
    if isinstance(source, Mapping):
        state = dict(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # safetensors, torch and pickle each raise their own, some with pages of advice
            reason = first_line(error)[:120]
            raise UserError(f"{path}: not readable as weights ({type(error).__name__}: {reason})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError("the source is not a dictionary of tensors: give the bare state dict of the model")
    return state


@contextmanager
def expected_form(what: str) -> Iterator[None]:
    """Makes a model of tensors that may have any names and shapes: ``UserError`` where that does not work."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # sides of 0 or of another number make torch raise many kinds
        raise UserError(f"{what}: tensors of another form ({first_line(error)})") from None


@contextmanager
def whole_state(path: Path) -> Iterator[None]:
    """Makes something of a state, of which anything may lack or not fit: then ``UserError``."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except Exception as error:  # what junk in a state makes torch raise is of many kinds
        raise UserError(f"{path}: not a whole training state ({first_line(error)})") from None


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], optional: Sequence[str] = ()) -> None:
    """Load ``state`` into ``model``, in the model's types; nothing may be missing, unknown or misshapen.

    Args:
        optional: names that may be missing or of another shape; then the model's own stay.

    Raises:
        UserError: lists every missing, unknown and misshapen name.
    """
    own = model.state_dict()
    bad = [f"missing {name}" for name in own if name not in state and name not in optional]
    bad += [f"unknown {name}" for name in state if name not in own]
    misshapen = [name for name in state if name in own and state[name].shape != own[name].shape]
    bad += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in misshapen
        if name not in optional
    ]
    if bad:
        raise UserError(f"the weights do not fit the model: {'; '.join(bad)}")
    kept = {name: value.to(own[name].dtype) for name, value in state.items() if name not in misshapen}
    model.load_state_dict(kept, strict=False)
