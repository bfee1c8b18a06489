"""Trained models out of the states of training runs: averaged weights, rounded as they would be published."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.errors import UserError, first_line
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.transformer.photo import PhotoTransformer, build_transformer
from vartutor.weights.files import STATE, load_state, ready

TRANSFORMERS = ("transformer", "preference")  # kinds of runs
RESTORERS = (*TRANSFORMERS, "fidelity", "refiner")  # those that hold a transformer
TOKENIZED = ("tokenizer", *RESTORERS)  # those that hold a tokenizer
KINDS = (*TOKENIZED, "baseline")


def kind_of(state: dict, path: Path) -> str:
    """Which of ``KINDS`` a state is of; a ``preference`` run is a fine-tuned transformer.

    Raises:
        UserError: it does not say.
    """
    kind = state.get("info", {}).get("kind")
    if kind not in KINDS:
        raise UserError(f"{path}: does not say which model it holds; train it again")
    return kind


def open_run(source: str | Path, kinds: tuple[str, ...], build: Callable[[dict], Any]) -> Any:
    """What ``build`` makes of the state of a run.

    Args:
        source: the run's folder, or a state in it, such as ``runs/hit/best.pt``.

    Raises:
        UserError: no state, one of another kind, or one that lacks something.
    """
    path = Path(source) / STATE if Path(source).is_dir() else Path(source)
    state = load_state(path)
    if (kind := kind_of(state, path)) not in kinds:
        raise UserError(f"{path}: holds a {kind}; needed: {' or '.join(kinds)}")
    try:
        return build(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: not a whole training state ({first_line(error)})") from None


def trained_tokenizer(state: dict) -> MultiScaleTokenizer:
    """The tokenizer of a state that holds one: the one that was trained, or the one that was trained over."""
    info = state["info"]
    if info["kind"] == "tokenizer":
        return ready(build_tokenizer(TokenizerConfig.from_json(info["config"])), state["averaged"])
    return ready(build_tokenizer(TokenizerConfig.from_json(info["tokenizer"])), state["parts"]["tokenizer"])


def trained_transformer(state: dict) -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """The transformer of a state, or the one that an addition was trained over; and the tokenizer."""
    info, tokenizer = state["info"], trained_tokenizer(state)
    if info["kind"] in TRANSFORMERS:
        return ready(build_transformer(info, tokenizer), state["averaged"]), tokenizer
    return ready(build_transformer(info["transformer"], tokenizer), state["parts"]["transformer"]), tokenizer


def trained_start(state: dict) -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """The transformer that a ``preference`` run started from; and the tokenizer."""
    tokenizer = trained_tokenizer(state)
    return ready(build_transformer(state["info"], tokenizer), state["parts"]["start"]), tokenizer


def trained_addition(kind: str, make: type[nn.Module], state: dict) -> nn.Module | None:
    """The module of this kind that the run trained over a transformer; None where it trained something else."""
    own = state["info"]["kind"] == kind
    return ready(make(**state["info"]["config"]), state["averaged"]) if own else None


def trained_fidelity(state: dict) -> Fidelity | None:
    """The fidelity module of a state, if it is of such a run."""
    return trained_addition("fidelity", Fidelity, state)


def trained_cnn(state: dict) -> CnnSuperResolver:
    """The convolutional super-resolver of a state."""
    return ready(CnnSuperResolver(CnnConfig.from_json(state["info"]["config"])), state["averaged"])
