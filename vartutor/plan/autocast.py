"""CUDA's rules of autocast, on CPU tensors: what of a step a GPU keeps in 32 bits although it could in 16.

The lists differ: norms, powers and enlargements take float32 on CUDA, and bfloat16 on the CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.library import _scoped_library

# Of CUDA's lists (ATen/autocast_mode.h), what networks call and the CPU's lists lack. These are cast to float32 first:
CAST = ("exp", "log", "log1p", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "reciprocal", "rsqrt", "softplus",
        "layer_norm", "group_norm", "cosine_similarity", "softmax.int", "log_softmax.int", "logsumexp",
        "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d")  # fmt: skip
SUMS = ("sum", "sum.dim_IntList", "cumsum", "linalg_vector_norm")  # and these read 16 bits and add in 32
KEY = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


@contextmanager
def cuda_rules() -> Iterator[None]:
    """While it lasts, ``torch.autocast("cpu", torch.bfloat16)`` casts as CUDA would; for the whole process."""
    with _scoped_library("aten", "IMPL") as library:
        for name in (*CAST, *SUMS):
            library.impl(name, _rule(name), "AutocastCPU")
        yield


def _rule(name: str) -> Callable:
    packet, overload = f"{name}.default".split(".")[:2]
    operation = getattr(getattr(torch.ops.aten, packet), overload)
    half = lambda x: isinstance(x, torch.Tensor) and x.dtype == torch.bfloat16  # noqa: E731

    def rule(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(KEY):
            if name not in SUMS:
                args = [x.float() if half(x) else x for x in args]
            elif half(args[0]):
                kwargs = {"dtype": torch.float32} | kwargs
            return operation(*args, **kwargs)

    return rule
