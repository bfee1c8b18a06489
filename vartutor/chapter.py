"""The first line of every chapter: read the three parameters, seed everything, set the look of the figures."""

import ast
import random
import sys
from dataclasses import dataclass

import numpy as np
import torch

from vartutor.devices import find_device
from vartutor.errors import UserError
from vartutor.profiles import Profile, get_profile
from vartutor.show import use_style

PARAMETERS = ("PROFILE", "SEED", "DEVICE")


@dataclass(frozen=True)
class Session:
    """What a chapter runs with; ``generator`` lives on the CPU, so that every device draws the same numbers."""

    profile: Profile
    seed: int
    device: torch.device
    generator: torch.Generator

    def __str__(self) -> str:
        return f"profile {self.profile.name}, seed {self.seed}, device {self.device.type}"


def check_seed(seed: int) -> int:
    """A seed that torch, NumPy and the crops all accept: a whole number in 0..9999.

    Raises:
        UserError: anything else.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= 9999:
        raise UserError(f"seed {seed!r}: give a whole number from 0 to 9999")
    return seed


def setup(profile: str = "cpu", seed: int = 0, device: str = "cpu") -> Session:
    """Start a chapter with the papermill parameters PROFILE, SEED and DEVICE.

    Seeds ``random``, NumPy and torch, and sets the figure style.

    Raises:
        UserError: an unknown profile, seed or device; or papermill was given another parameter.
    """
    if unknown := [name for name in _injected() if name not in PARAMETERS]:
        raise UserError(f"unknown parameter {', '.join(unknown)}: a chapter takes {', '.join(PARAMETERS)}")
    session = Session(get_profile(profile), check_seed(seed), find_device(device), torch.Generator())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what libraries draw from)
    torch.manual_seed(seed)
    session.generator.manual_seed(seed)
    use_style()
    return session


def _injected() -> list[str]:
    """What papermill's own cell sets, before the first of ours; nothing where nobody injected one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None  # commands do without
    cells = getattr(shell, "user_ns", {}).get("In", ())
    body = [node for cell in cells if cell.startswith("# Parameters\n") for node in ast.parse(cell).body]
    return [target.id for node in body if isinstance(node, ast.Assign) for target in node.targets]
