"""The first line of every chapter: read the three parameters, seed everything, set the look of the figures."""

import random
from dataclasses import dataclass

import numpy as np
import torch

from vartutor.errors import UserError
from vartutor.profiles import Profile, get_profile
from vartutor.show.style import use_style

DEVICES = ("cpu", "cuda", "mps", "auto")


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


def find_device(name: str) -> torch.device:
    """A device by name; ``auto`` takes a GPU where there is one.

    Raises:
        UserError: unknown, or not on this machine.
    """
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if have[kind])
    if name not in have:
        raise UserError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    if not have[name]:
        raise UserError(f"device {name!r} is not on this machine: use DEVICE = 'cpu'")
    return torch.device(name)


def setup(profile: str = "cpu", seed: int = 0, device: str = "cpu") -> Session:
    """Start a chapter with the papermill parameters PROFILE, SEED and DEVICE.

    Seeds ``random``, NumPy and torch, and sets the figure style.

    Raises:
        UserError: an unknown profile, seed or device.
    """
    session = Session(get_profile(profile), check_seed(seed), find_device(device), torch.Generator())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what libraries draw from)
    torch.manual_seed(seed)
    session.generator.manual_seed(seed)
    use_style()
    return session
