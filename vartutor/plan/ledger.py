"""What the operations of a dry run compute and allocate, entered one by one."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vartutor.train.speed import CPU_ATTENTION

FORMULAS = flop_registry | CPU_ATTENTION


class Ledger(TorchDispatchMode):
    """Counts FLOPs by part of the step, and bytes, of all that runs under fake tensors while it is active.

    FLOPs are by the formulas of torch's ``FlopCounterMode``, which itself would keep activations from being freed.
    What the backward pass does for an operation belongs to the part that called it forwards.

    Args:
        models: their weights were there before, and do not count as allocated.
        parts: methods of modules, by the name of the part that runs in them; attention is a part of its own where it
            runs in ``matrices``.

    Attributes:
        forward, backward: FLOPs by part; the latter with what is computed again.
        now, peak: bytes, and the most at one time.
    """

    def __init__(self, models: Iterable[nn.Module], parts: Mapping[str, Iterable[Callable]]):
        super().__init__()
        self.forward, self.backward, self.now, self.peak = Counter(), Counter(), 0, 0
        self._known = {t.untyped_storage()._cdata: 0 for m in models for t in chain(m.parameters(), m.buffers())}
        self._within, self._asked = [], {}
        for part, methods in parts.items():
            for method in methods:
                setattr(method.__self__, method.__name__, self._marked(part, method))

    def _marked(self, part: str, call: Callable) -> Callable:
        def marked(*args, **kwargs):
            self._within.append(part)
            try:  # checkpointing leaves a module by an exception when it has computed enough again
                return call(*args, **kwargs)
            finally:
                self._within.pop()

        return marked

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.prim.device.default:  # most of all calls
            return args[0].fake_device
        made = function(*args, **(kwargs or {}))
        if formula := FORMULAS.get(function._overloadpacket):
            self._count(formula(*args, **(kwargs or {}), out_val=made), "attention" in function.__name__)
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return made

    def _count(self, flops: int, attention: bool) -> None:
        node, part = torch._C._current_autograd_node(), self._within[-1] if self._within else "all else"
        if node is None:  # if this operation has a node, it is the last that was made
            self._asked.setdefault(torch.autograd._get_sequence_nr() - 1, part)
        elif not self._within:  # else a module computes again
            part = self._asked.get(node._sequence_nr(), part)
        name = "attention" if attention and part == "matrices" else part
        (self.forward if node is None else self.backward)[name] += flops

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._known.pop(key)
