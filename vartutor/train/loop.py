"""How long and how fast a run trains."""

import math
from dataclasses import dataclass

from torch import Tensor

Numbers = dict[str, Tensor | float]  # what is logged of a step; scalars


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train."""

    steps: int
    seconds: float = 0.0  # instead of steps: train for this long, and let the learning rate follow the time
    lr: float = 1e-3  # peak
    warmup: float = 0.05  # share of the run
    weight_decay: float = 0.01
    clip: float = 1.0  # gradient norm
    ema: float = 0.999  # decay of the averaged weights
    log_every: int = 50  # steps
    save_every: int = 500
    validate_every: int = 1000  # 0: never


@dataclass(frozen=True)
class Moment:
    """Where a run stands: ``step`` counts from 0; ``progress`` in 0..1 says how much of the run is over after it."""

    step: int = 0
    progress: float = 0.0
    logged: bool = True  # whether what is measured now goes into the log


NOW = Moment()  # of a loss that is asked for once


def learning_rate(progress: float, config: LoopConfig) -> float:
    """Linear warm-up, then half a cosine down to a hundredth; a function of the progress (0..1) alone."""
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest)))
