"""How fast a run is: photos per second, the share of the device's peak, and the memory that it took."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from vartutor.gpus import GPUS

FUSED, ON_CPU = "_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu"
CPU_ATTENTION = {  # torch's counter knows the fused attention of GPUs only
    getattr(torch.ops.aten, ON_CPU + end): flop_registry[getattr(torch.ops.aten, FUSED + end)]
    for end in ("", "_backward")
}


def peak_flops(device: torch.device, bf16: bool) -> float:
    """FLOPs per second: of a known GPU by its data sheet, of anything else by a large product of matrices."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device).lower().replace(" ", "")
        for gpu in GPUS.values():
            if bf16 and gpu.name.split("-")[0] in name:
                return gpu.flops
    kind, side = torch.bfloat16 if bf16 else torch.float32, 4096 if device.type == "cuda" else 768
    a = torch.randn(side, side, device=device, dtype=kind)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        (a @ a)[0, 0].item()
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


def peak_memory(device: torch.device) -> float:
    """The most bytes so far: of the GPU's memory, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return float("nan")
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Speed:
    """Rates since the last row of the log.

    Args:
        photos: per step, of this process.
        compiled: whether parts are compiled, which hides their operations.
    """

    def __init__(self, device: torch.device, bf16: bool, photos: int, compiled: bool = False):
        self.device, self.photos, self.peak, self.compiled = device, photos, peak_flops(device, bf16), compiled
        self.flops, self.steps, self.begin = None, 0, time.perf_counter()

    @torch.no_grad()
    def count(self, forward: Callable[[], Any], rounds: int) -> None:
        """A step's FLOPs: three times those of its forward passes, as MFU is defined (Chowdhery et al., 2022, B).

        A backward pass takes twice its forward pass; what is computed again to save memory does not count.
        """
        stance = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
        counter = FlopCounterMode(display=False)
        counter.flop_registry |= CPU_ATTENTION  # as a custom mapping, formulas would be given shapes
        with stance, counter:
            forward()
        self.flops = 3.0 * rounds * counter.get_total_flops()

    def stepped(self) -> None:
        """A step is done."""
        self.steps += 1

    def numbers(self) -> dict[str, float]:
        """``photos/s`` and ``mfu`` (share of the peak) per process, ``memory`` in GB."""
        seconds, steps = time.perf_counter() - self.begin, self.steps
        self.begin, self.steps = time.perf_counter(), 0
        mfu = (self.flops or 0.0) * steps / (seconds * self.peak)
        return {"photos/s": self.photos * steps / seconds, "mfu": mfu, "memory": peak_memory(self.device) / 1e9}
