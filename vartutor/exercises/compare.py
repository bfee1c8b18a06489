"""The result of an answer and the right one: whether they agree, and what to say if they do not."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor


class Mistake(Exception):
    """Raised with the diagnosis to show."""


def require(condition: bool, diagnosis: str) -> None:
    """Raise the diagnosis unless the condition holds."""
    if not condition:
        raise Mistake(diagnosis)


def _number(value):
    """The number in a tensor or an array of one; all else as it is."""
    size = value.numel() if isinstance(value, Tensor) else getattr(value, "size", 0)
    return value.item() if size == 1 else value


def _kind(value) -> str:
    """What a result is, in words: its type, and for a tensor what it holds, its shape and its device."""
    if isinstance(value, Tensor):
        held = {torch.bool: "booleans", torch.uint8: "uint8"}.get(value.dtype)
        held = held or ("floats" if value.is_floating_point() else "whole numbers")
        return f"a tensor of {held}, shape {tuple(value.shape)}" + f" on {value.device}" * (value.device.type != "cpu")
    names = {bool: "a truth value", int: "a whole number", float: "a number", np.ndarray: "an array"}
    return names.get(type(value), f"a {type(value).__name__}")


def short(value) -> str:
    """A value in few characters; of a large tensor, the shape."""
    if isinstance(value, (Tensor, np.ndarray)):
        small = math.prod(value.shape) <= 6 and value.ndim <= 2
        return short(value.tolist()) if small else f"{_kind(value).split()[1]} of {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        text = ", ".join(map(short, value))
        return f"a list of {len(value)}" if len(text) > 90 else f"[{text}]" if isinstance(value, list) else f"({text})"
    if isinstance(value, dict):
        text = ", ".join(f"{short(key)}: {short(item)}" for key, item in value.items())
        return f"{{{text}}}" if len(text) <= 90 else f"a dict of {len(value)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if callable(value):
        return "a function"
    return repr(sorted(value, key=str)) if isinstance(value, set) else repr(value)


def leaves(got, right, name: str, parts: tuple = ()) -> Iterator[tuple]:
    """Pairs of what can be compared, (name, got, right).

    Raises:
        Mistake: type, length, dtype, device or shape differ.
    """
    if isinstance(right, (list, tuple)):
        wanted = f"({', '.join(parts)})" if parts else f"a list of {len(right)}"
        found = f"a list of {len(got)}" if isinstance(got, (list, tuple)) else _kind(got)
        fits = isinstance(got, (list, tuple)) or (isinstance(got, (Tensor, np.ndarray)) and got.ndim)
        require(fits and len(got) == len(right), f"{name} should be {wanted}, and is {found}")
        for k, (g, r) in enumerate(zip(got, right, strict=True)):
            yield from leaves(g, r, parts[k] if parts else f"{name.removeprefix('the ')}[{k}]")
        return
    if not (isinstance(right, Tensor) and right.ndim):
        got, right = _number(got), _number(right)
    wanted, found = _kind(right), _kind(got)
    fits = wanted == found or (wanted, found) == ("a number", "a whole number")
    require(fits, f"{name} should be {wanted}, and is {found}")
    yield name, got, right


def _off(got: Tensor, right: Tensor) -> Tensor:
    """Where two tensors differ: floats by a ten-thousandth, all else at all."""
    floats = right.is_floating_point()
    return ~torch.isclose(got.double(), right.double(), rtol=1e-4 * floats, atol=1e-6 * floats, equal_nan=True)


def close(got, right) -> bool:
    """Whether two leaves agree."""
    if isinstance(right, Tensor):
        return not _off(got, right).any()
    if isinstance(right, float):
        return math.isclose(got, right, rel_tol=1e-4, abs_tol=1e-9) or (math.isnan(got) and math.isnan(right))
    return got == right


def same(got, right, agree: Callable = close) -> bool:
    """Whether two results have the same form, and all their leaves agree."""
    try:
        return all(agree(g, r) for _, g, r in leaves(got, right, ""))
    except Mistake:
        return False


def unchanged(before, after) -> bool:
    """Whether an input is still what it was."""
    if isinstance(before, (Tensor, np.ndarray)):
        return before.shape == after.shape and bool((before == after).all())
    if isinstance(before, dict):
        return list(before) == list(after) and unchanged([*before.values()], [*after.values()])
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(unchanged, before, after))
    return before == after


def holds_nan(value) -> bool:
    """Whether a leaf is, or has among its numbers, one that is not a number."""
    return isinstance(value, (Tensor, float)) and bool(torch.as_tensor(value).isnan().any())


def difference(name: str, got, right) -> str:
    """What differs between two leaves, with numbers."""
    if not isinstance(right, Tensor) or (right.numel() <= 6 and right.ndim <= 2):
        return f"{name} should be {short(right)}, and is {short(got)}"
    off = _off(got, right)
    at = off.nonzero()[0].tolist()
    values = f"it should be {short(right[tuple(at)])}, and is {short(got[tuple(at)])}"
    return f"{name} differs in {int(off.sum())} of {off.numel()} places; at {at} {values}"
