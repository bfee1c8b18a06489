"""Where the networks live."""

import torch

from vartutor.errors import UserError

DEVICES = ("cpu", "cuda", "mps", "auto")


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
        raise UserError(f"device {name!r} is not on this machine: use cpu")
    return torch.device(name)
