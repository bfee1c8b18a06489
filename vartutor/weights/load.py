"""Models by name, folder or file; each comes in evaluation mode, without gradients."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from vartutor.baselines.cnn import CnnSuperResolver
from vartutor.checkpoints import shipped
from vartutor.errors import UserError
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights import runs
from vartutor.weights.official_tokenizer import load_vqvae
from vartutor.weights.shipped import (
    objective_of,
    shipped_addition,
    shipped_cnn,
    shipped_fidelity,
    shipped_tokenizer,
    shipped_transformer,
)

OFFICIAL = (".pth", ".safetensors")  # suffixes of what other projects publish


class Restorer(NamedTuple):
    """What restores photos: a transformer over its tokenizer, and the fidelity module trained over both, if any."""

    model: PhotoTransformer
    tokenizer: HierarchicalTokenizer
    fidelity: Fidelity | None = None


def load_tokenizer(source: str | Path = "hit") -> MultiScaleTokenizer:
    """A tokenizer: ``vq`` (chapter 02), ``var`` (04) or ``hit`` (05); of any run that has one; or VAR's official file.

    Raises:
        UserError: no such model, unreadable, or changed since it was published.
    """
    if Path(source).suffix in OFFICIAL:
        return load_vqvae(source)
    return _load("tokenizer", source, shipped_tokenizer, runs.TOKENIZED, runs.trained_tokenizer)


def load_hierarchical(source: str | Path = "hit") -> HierarchicalTokenizer:
    """A tokenizer that a transformer for photos can be trained over.

    Raises:
        UserError: as :func:`load_tokenizer`; or not a hierarchical one.
    """
    tokenizer = load_tokenizer(source)
    if not isinstance(tokenizer, HierarchicalTokenizer):
        raise UserError(f"{source}: not a hierarchical tokenizer; train one with --set ladder=hit")
    return tokenizer


def load_restorer(source: str | Path = "course") -> Restorer:
    """What restores photos; what was trained over a transformer comes along: shipped with it, or of the same run.

    Raises:
        UserError: no such model, unreadable, or changed since it was published.
    """

    def of_run(state: dict) -> Restorer:
        return Restorer(*runs.trained_transformer(state), runs.trained_fidelity(state))

    own = lambda name: Restorer(*shipped_transformer(name), shipped_fidelity(name))  # noqa: E731
    return _load("transformer", source, own, runs.RESTORERS, of_run)


def load_addition(kind: str, make: type[nn.Module], source: str | Path = "course") -> nn.Module | None:
    """Another module that was trained over a transformer, such as a ``refiner``; None where there is none.

    Raises:
        UserError: no such model, unreadable, or changed since it was published.
    """
    own, of_run = partial(shipped_addition, kind, make), partial(runs.trained_addition, kind, make)
    return _load("transformer", source, own, runs.RESTORERS, of_run)


def load_start(source: str | Path = "course") -> tuple[PhotoTransformer, HierarchicalTokenizer, dict]:
    """What can be fine-tuned: a transformer, its tokenizer, and the objective of its training, as plain values.

    Raises:
        UserError: no such model, unreadable, or changed since it was published.
    """
    own = lambda name: (*shipped_transformer(name), objective_of(name))  # noqa: E731
    of_run = lambda state: (*runs.trained_transformer(state), state["info"]["objective"])  # noqa: E731
    return _load("transformer", source, own, runs.TRANSFORMERS, of_run)


def load_cnn(source: str | Path = "course") -> CnnSuperResolver:
    """A convolutional super-resolver.

    Raises:
        UserError: no such model, unreadable, or changed since it was published.
    """
    return _load("cnn", source, shipped_cnn, ("baseline",), runs.trained_cnn)


def _load(
    kind: str, source: str | Path, own: Callable[[str], Any], kinds: tuple[str, ...], of_run: Callable[[dict], Any]
) -> Any:
    if source in (names := shipped(kind)):
        return own(source)
    if not Path(source).exists():
        known = ", ".join(names) or "none yet"
        raise UserError(f"{source}: neither a shipped {kind} ({known}) nor a training run, by its folder or state")
    return runs.open_run(source, kinds, of_run)
