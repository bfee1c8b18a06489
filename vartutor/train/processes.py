"""The processes of a run: one, or as many as ``torchrun`` starts, each with a device and a share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Process:
    """One of ``size`` processes."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def part(self, count: int) -> slice:
        """Which of ``count`` images are this process's; ``count`` is a multiple of ``size``."""
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def mean(self, values: list[float]) -> list[float]:
        """Means over all processes."""
        return (self._reduce(values) / self.size).tolist()

    def any(self, asked: bool) -> bool:
        """Whether it is true in any process."""
        return bool(self._reduce([float(asked)]).item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def _reduce(self, values: list[float]) -> Tensor:
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(total)
        return total


@contextmanager
def this_process() -> Iterator[Process]:
    """Join the other processes, if there are any, and leave them at the end."""
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1 or dist.is_initialized():
        yield Process(dist.get_rank(), size, device) if size > 1 else Process(device=device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Process(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
