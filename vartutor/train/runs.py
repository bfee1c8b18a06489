"""Trained models out of the folders of training runs: averaged weights, rounded as they would be published."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from vartutor.checkpoints import checkpoint_name, manifest, shipped
from vartutor.errors import UserError, first_line
from vartutor.tokenizer.build import LADDERS, TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.pretrained import load_pretrained
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.checkpoint import load_state
from vartutor.transformer.photo import PhotoTransformer
from vartutor.transformer.pretrained import (
    build_transformer,
    load_pretrained_fidelity,
    load_pretrained_refiner,
    load_pretrained_transformer,
)
from vartutor.transformer.refiner import Refiner

TRANSFORMERS = ("transformer", "preference")  # kinds of runs
ADDITIONS = ("fidelity", "refiner")  # trained over a transformer
TOKENIZED = ("tokenizer", *TRANSFORMERS, *ADDITIONS)  # those that hold a tokenizer
KINDS = (*TOKENIZED, "cnn")


class Restorer(NamedTuple):
    """What restores photos: a transformer over its tokenizer, and what was trained over both, if anything."""

    model: PhotoTransformer
    tokenizer: HierarchicalTokenizer
    fidelity: Fidelity | None = None
    refiner: Refiner | None = None


def kind_of(state: dict, path: Path) -> str:
    """Which of ``KINDS`` a training state is of; a ``preference`` run is a fine-tuned transformer.

    Raises:
        UserError: it does not say.
    """
    info = state.get("info", {})
    kind = info.get("kind", "tokenizer" if "ladder" in info.get("config", {}) else "")
    if kind not in KINDS:
        raise UserError(f"{path}: does not say which model it holds; train it again")
    return kind


def trained_tokenizer(state: dict) -> MultiScaleTokenizer:
    """The tokenizer of a training state that holds one: the one that was trained, or the one that was trained over."""
    info = state["info"]
    if "ladder" in info["config"]:
        return ready(build_tokenizer(TokenizerConfig.from_json(info["config"])), state["averaged"])
    return ready(build_tokenizer(TokenizerConfig.from_json(info["tokenizer"])), state["parts"]["tokenizer"])


def trained_transformer(state: dict) -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """The transformer of a training state, or the one that an addition was trained over; and the tokenizer."""
    info, tokenizer = state["info"], trained_tokenizer(state)
    if info["kind"] in TRANSFORMERS:
        return ready(build_transformer(info, tokenizer), state["averaged"]), tokenizer
    return ready(build_transformer(info["transformer"], tokenizer), state["parts"]["transformer"]), tokenizer


def trained_start(state: dict) -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """The transformer that a ``preference`` run started from; and the tokenizer."""
    tokenizer = trained_tokenizer(state)
    return ready(build_transformer(state["info"], tokenizer), state["parts"]["start"]), tokenizer


def trained_fidelity(state: dict) -> Fidelity:
    """The fidelity module of a training state."""
    return ready(Fidelity(**state["info"]["config"]), state["averaged"])


def trained_refiner(state: dict) -> Refiner:
    """The refiner of a training state."""
    return ready(Refiner(**state["info"]["config"]), state["averaged"])


def trained_restorer(state: dict) -> Restorer:
    """All that the state of a transformer, a fidelity module or a refiner holds."""
    additions = {"fidelity": trained_fidelity, "refiner": trained_refiner}
    own = {kind: build(state) for kind, build in additions.items() if kind == state["info"]["kind"]}
    return Restorer(*trained_transformer(state), **own)


def ready(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The model with these weights, rounded to float16 and back, in evaluation mode, without gradients."""
    names = model.state_dict().keys()  # without the moving averages of a codebook, which only training needs
    model.load_state_dict({name: value for name, value in weights.items() if name in names})
    return model.half().float().eval().requires_grad_(False)


def find_tokenizer(source: str) -> HierarchicalTokenizer:
    """A hierarchical tokenizer: ``hit``, the shipped one, or the folder of any training run that has one.

    Raises:
        UserError: neither; not a hierarchical one; unreadable.
    """
    if source in LADDERS:
        tokenizer = load_pretrained(source)
    elif Path(source).is_dir():
        tokenizer = open_run(source, TOKENIZED, trained_tokenizer)
    else:
        raise UserError(f"{source}: neither a shipped tokenizer (hit) nor the folder of a training run")
    if not isinstance(tokenizer, HierarchicalTokenizer):
        raise UserError(f"{source}: not a hierarchical tokenizer; train one with --ladder hit")
    return tokenizer


def find_restorer(source: str) -> Restorer:
    """What restores photos: a shipped transformer by name, or the folder of a training run.

    What was trained over a transformer comes along: shipped with it, or in the run that trained it.

    Raises:
        UserError: neither; a run of something else; unreadable.
    """
    if source in shipped("transformer"):
        return Restorer(
            *load_pretrained_transformer(source), load_pretrained_fidelity(source), load_pretrained_refiner(source)
        )
    return open_run(_folder(source), (*TRANSFORMERS, *ADDITIONS), trained_restorer)


def find_start(source: str) -> tuple[PhotoTransformer, HierarchicalTokenizer, dict]:
    """What can be fine-tuned: a shipped transformer by name, or the folder of a run that trained one.

    Returns:
        the transformer, its tokenizer, and the objective that it was trained with, as plain values.

    Raises:
        UserError: neither; a run of something else; unreadable.
    """
    if source in shipped("transformer"):
        return *load_pretrained_transformer(source), manifest()[checkpoint_name("transformer", source)]["objective"]
    return open_run(
        _folder(source), TRANSFORMERS, lambda state: (*trained_transformer(state), state["info"]["objective"])
    )


def _folder(source: str) -> str:
    if not Path(source).is_dir():
        known = ", ".join(shipped("transformer")) or "none yet"
        raise UserError(f"{source}: neither a shipped transformer ({known}) nor the folder of a training run")
    return source


def open_run(run: str | Path, kinds: tuple[str, ...], build: Callable[[dict], Any]) -> Any:
    """What ``build`` makes of a run's state.

    Raises:
        UserError: no state, one of another kind, or one that lacks something.
    """
    path = Path(run) / "state.pt"
    state = load_state(path)
    if (kind := kind_of(state, path)) not in kinds:
        raise UserError(f"{path}: holds a {kind}; needed: {' or '.join(kinds)}")
    try:
        return build(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: not a whole training state ({first_line(error)})") from None
