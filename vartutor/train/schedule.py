"""Learning rate and weight decay as functions of the step alone, so that a resumed run needs no memory of them."""

import math

from vartutor.errors import UserError

PLATEAUS = {"lin": 0.15, "lin0": 0.05, "lin00": 0.0, "exp": 0.15}


def var_schedule(step: int, steps: int, warmup: int, kind: str = "lin0", start: float = 0.005, end: float = 0.01):
    """VAR's learning rate as a factor of its peak.

    Args:
        step: from 0 to ``steps - 1``.
        warmup: steps of linear warm-up from ``start``.
        kind: ``cos``: half a cosine; ``lin``, ``lin0``, ``lin00``: constant for 15 %, 5 % or none of the rest, then
            a straight line; ``exp``: 15 %, then exponential; ``lin`` and a share such as ``lin0.8``: a line that falls
            half as fast until that share, and then a steeper one.
        end: factor at the last step.

    Raises:
        UserError: an unknown kind.
    """
    if step < warmup:
        return start + (1 - start) * step / warmup
    passed = (step - warmup) / max(1, steps - 1 - warmup)
    if kind == "cos":
        return end + (1 - end) * (0.5 + 0.5 * math.cos(math.pi * passed))
    if kind not in PLATEAUS:
        return _broken_line(passed, kind, end)
    plateau = PLATEAUS[kind]
    if passed < plateau:
        return 1.0
    if kind == "exp":
        return end ** ((passed - plateau) / (1 - plateau))
    return end + (1 - end) * (1 - passed) / (1 - plateau)


def _broken_line(passed: float, kind: str, end: float) -> float:
    try:
        bend = float(kind.removeprefix("lin"))
    except ValueError:
        raise UserError(
            f"unknown schedule {kind!r}: choose one of cos, {', '.join(PLATEAUS)} or such as lin0.8"
        ) from None
    middle = (1 + end + (1 - end) * (1 - bend)) / 2
    if passed < bend:
        return 1 + (middle - 1) * passed / bend
    return end + (middle - end) * (1 - passed) / (1 - bend)


def weight_decay(step: int, steps: int, first: float, last: float) -> float:
    """Half a cosine from ``first`` to ``last`` over the run."""
    return last + (first - last) * (0.5 + 0.5 * math.cos(math.pi * step / max(1, steps - 1)))
