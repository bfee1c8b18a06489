"""The processes of a run: one, or as many as ``torchrun`` starts, each with a device and a share of every batch.

And how they are asked to stop.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from vartutor.devices import find_device
from vartutor.errors import UserError


@dataclass(frozen=True)
class Process:
    """One of ``size`` processes."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __str__(self) -> str:
        name = f"{torch.cuda.get_device_name(self.device)}, " if self.device.type == "cuda" else ""
        cores = f"{torch.get_num_threads()} threads, " if self.device.type == "cpu" else ""
        return f"{self.device} ({name}{cores}{self.size} process{'es' * (self.size > 1)})"

    def part(self, count: int) -> slice:
        """Which of ``count`` images are this process's; ``count`` is a multiple of ``size``."""
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def mean(self, values: Tensor) -> Tensor:
        """Means (n,) over all processes of values (n,)."""
        if self.size > 1:
            dist.all_reduce(values)
        return values / self.size

    def most(self, value: float) -> float:
        """The largest over all processes."""
        if self.size == 1:
            return value
        found = torch.tensor(value, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.item()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def this_process(device: str = "auto") -> Iterator[Process]:
    """Join the other processes, if there are any, and leave them at the end.

    Args:
        device: as for :func:`vartutor.devices.find_device`; with ``auto``, processes that outnumber the GPUs of their
            machine share its CPU.

    Raises:
        UserError: no such device, or fewer GPUs than processes.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    crowded = here > max(1, torch.cuda.device_count())
    if crowded and device == "cuda":
        raise UserError(f"{here} processes on {torch.cuda.device_count()} GPUs: start as many as there are GPUs")
    found = torch.device("cpu") if crowded and device == "auto" else find_device(device)
    if found.type == "cuda":
        found = torch.device("cuda", rank)
        torch.cuda.set_device(found)
        torch.backends.cudnn.benchmark = True  # every image size comes again and again
    if size == 1 or dist.is_initialized():
        yield Process(dist.get_rank(), size, found) if size > 1 else Process(device=found)
        return
    dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
    try:
        yield Process(dist.get_rank(), size, found)
    finally:
        dist.destroy_process_group()


class Interrupt:
    """While active, Ctrl-C only asks to stop, so that no step is cut in half; a second one stops at once.

    So does SIGTERM, by which torchrun, and a queue that wants its machine back, ask.
    """

    def __enter__(self) -> "Interrupt":
        self.asked, self._before = False, {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, *_) -> None:
        self.asked = True
        self.__exit__()

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
