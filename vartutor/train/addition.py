"""What stands beside a frozen transformer and its tokenizer, and learns alone: the fidelity module and the refiner."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Generator, nn

from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.cache import BatchCache
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.transformer.photo import PhotoTransformer


def train_addition(
    kind: str,
    addition: nn.Module,
    loss: Callable,
    cache: BatchCache,
    model: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    out: Path,
    schedule: LoopConfig,
    *,
    objective: Any,
    generators: list[Generator],
    seed: int,
    resume: bool,
    origin: dict | None,
) -> Trainer:
    """Train to the end; the state holds transformer and tokenizer too, and what all of them are.

    Args:
        cache: filled by the transformer and the tokenizer.
        objective: a dataclass.

    Raises:
        UserError: to be resumed, a state that is missing, unreadable or of another model.
    """
    info = {
        "kind": kind,
        "tokenizer": tokenizer.config.to_json(),
        "transformer": model.settings,
        "config": addition.settings,
        "objective": asdict(objective),
        "seed": seed,
        "steps": schedule.steps,
        **(origin or {}),
    }
    parts = {"tokenizer": tokenizer, "transformer": model, "cache": cache}  # in this order: the first two fill the last
    trainer = Trainer(addition, loss, schedule, out, generators, info, parts)
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer
