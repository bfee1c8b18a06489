"""Memory of a training step, counted in a dry run: every operation, with its shapes and types, but no numbers.

PyTorch's fake tensors have a shape and no storage, so that the step of a model of any size runs in seconds and in
no memory. Whatever an operation would allocate is added, and taken off again when nothing holds it any more.
"""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.transformer.photo import PhotoTransformer

STATE_BYTES = 20  # per trained parameter: weight, gradient, AdamW's two averages, averaged weight, 4 bytes each


class Allocations(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while it is active; ``peak`` is the most at one time.

    Args:
        model: whose weights were there before, and do not count when an operation returns a view of them.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.now = self.peak = 0
        self._known = {t.untyped_storage()._cdata: 0 for t in chain(model.parameters(), model.buffers())}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._known.pop(key)


def count_peak(model: nn.Module, loss: Callable[[], Tensor], bf16: bool = False) -> int:
    """Bytes that forward and backward need beside the model and its gradients.

    Args:
        model: on the meta device; it gets fake weights and is of no other use afterwards.
        loss: makes a batch of zeros and returns the loss, before it is differentiated.
        bf16: under autocast, with the rules of the CPU, which are those of a GPU for matrix products, convolutions
            and attention.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        counter = Allocations(model)
        with counter:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                value = loss()
            forward = counter.peak
            value.backward()
        gradients = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
        # The gradients of the step before are alive until the forward pass is done, then they come back one by one.
        return max(forward, counter.peak - gradients)


def tokenizer_activations(tokenizer: nn.Module, image_size: int, batch: int, bf16: bool = False) -> int:
    """Bytes that a training step of a tokenizer needs beside its state; ``tokenizer`` as for :func:`count_peak`."""
    quantizer = tokenizer.quantizer.eval()  # its statistics are small, and depend on numbers
    quantizer.lookup = lambda z: z.new_zeros(len(z), z.shape[-2] * z.shape[-1], dtype=torch.long)

    def loss() -> Tensor:
        x = torch.zeros(batch, 3, image_size, image_size)
        images, _, quantizing = tokenizer(x)
        if not isinstance(tokenizer, HierarchicalTokenizer):
            images = {1: images}
        errors = [image.float() - torch.zeros(image.shape) for image in images.values()]
        return sum(e.abs().mean() + e.square().mean() for e in errors) + quantizing

    return count_peak(tokenizer, loss, bf16)


def transformer_activations(
    model: PhotoTransformer, lr_size: int, batch: int, bf16: bool = False, branches: int = 1
) -> int:
    """Bytes that a training step of the transformer needs beside its state.

    Args:
        model: as for :func:`count_peak`.
        branches: sequences of tokens for the same photo, as for :func:`vartutor.plan.flops.transformer_step`.
    """
    config = model.train().config

    def loss() -> Tensor:
        channels, tokens = config.channels, config.tokens
        inputs = torch.zeros(batch, tokens - config.patch_nums[0] ** 2, channels)
        rests = torch.zeros(batch, tokens, channels)
        condition = model.condition(torch.zeros(batch, 3, lr_size, lr_size), ())
        targets = torch.zeros(batch * tokens, dtype=torch.long)
        return sum(
            nn.functional.nll_loss(logits.log_softmax(-1).flatten(0, 1), targets)
            for logits in model.body.branches(condition, [(inputs, rests)] * branches)
        )

    return count_peak(model, loss, bf16)
