"""Weights have one room: models by name, folder or file; each comes in evaluation mode, without gradients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.errors import UserError
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.transformer.photo import PhotoTransformer, build_transformer
from vartutor.weights.files import NET, STATE, checkpoint_name, load_checkpoint, load_state, manifest, ready, shipped

OFFICIAL = (".pth", ".safetensors")  # suffixes of what other projects publish
ADDITIONS = ("fidelity", "refiner")  # trained over a transformer
SAVED = ("tokenizer", "transformer", "preference", "baseline", *ADDITIONS)  # of runs
Parts = dict[str, tuple[dict, dict[str, Tensor]]]  # for every kind of model: what it is built from, and its weights


class Restorer(NamedTuple):
    """What restores photos: a transformer over its tokenizer, and the fidelity module trained over both, if any."""

    model: PhotoTransformer
    tokenizer: HierarchicalTokenizer
    fidelity: Fidelity | None = None


def is_official(source: str | Path) -> bool:
    """Whether a name is that of a file with another project's weights."""
    return Path(source).suffix in OFFICIAL


# --- where weights are found ---------------------------------------------------------------------------


def kind_of(state: dict, path: Path) -> str:
    """Which of ``SAVED`` the state of a run is of; a ``preference`` run is a fine-tuned transformer.

    Raises:
        UserError: it does not say.
    """
    info = state.get("info") if isinstance(state, dict) else None
    kind = info.get("kind") if isinstance(info, dict) else None
    if kind not in SAVED:
        raise UserError(f"{path}: does not say which model it holds; train it again")
    return kind


def parts_of(state: dict) -> Parts:
    """All models that the state of a run holds: the trained one, and those that it was trained over."""
    info, own = state["info"], state["averaged"]
    kind = info["kind"]
    if kind in ("tokenizer", "baseline"):
        return {"cnn" if kind == "baseline" else kind: (info["config"], own)}
    parts = {"tokenizer": (info["tokenizer"], state["parts"]["tokenizer"])}
    if kind in ADDITIONS:
        parts["transformer"] = info["transformer"], state["parts"]["transformer"]
        return parts | {kind: (info["config"], own)}
    if kind == "preference":
        parts["start"] = info, state["parts"]["start"]
    return parts | {"transformer": (info, own)}


def shipped_parts(kind: str, name: str) -> Parts:
    """A shipped model, with what it was trained over, and what was trained over it.

    Raises:
        UserError: a checkpoint that is missing or changed, or a tokenizer that is not the one it was trained over.
    """
    listed, file = manifest(), checkpoint_name(kind, name)
    entry = listed[file]
    if kind != "transformer":
        return {kind: (entry["config"], load_checkpoint(file))}
    parts = shipped_parts("tokenizer", _shipped_as("tokenizer", entry["tokenizer"], file))
    weights = load_checkpoint(file)
    if "net" in entry:
        net = load_checkpoint(checkpoint_name("cnn", _shipped_as("cnn", entry["net"], file)))
        weights = weights | {NET + key: value for key, value in net.items()}
    parts[kind] = entry, weights
    for addition in ADDITIONS:
        own = checkpoint_name(addition, name)
        if own in listed and listed[own]["transformer"] == entry["sha256"]:
            parts[addition] = listed[own]["config"], load_checkpoint(own)
    return parts


def _shipped_as(kind: str, sha256: str, over: str) -> str:
    """Name of the shipped model with this checksum, over which the file ``over`` was trained."""
    for name in shipped(kind):
        if manifest()[checkpoint_name(kind, name)]["sha256"] == sha256:
            return name
    raise UserError(f"{over} was trained over another {kind} than those that are shipped now")


def _load(kind: str, source: str | Path, make: Callable[[Parts], Any]) -> Any:
    """What is made of the parts of a source that has this kind of model."""
    if source in (names := shipped(kind)):
        return make(shipped_parts(kind, str(source)))
    if not Path(source).exists():
        known = ", ".join(names) or "none yet"
        raise UserError(f"{source}: neither a shipped {kind} ({known}) nor a training run, by its folder or state")
    path = Path(source) / STATE if Path(source).is_dir() else Path(source)
    state = load_state(path)
    found = kind_of(state, path)
    from vartutor.weights.state_dicts import whole_state  # shipped models do without

    with whole_state(path):
        parts = parts_of(state)
        if kind in parts:
            return make(parts)
    raise UserError(f"{path}: holds a {found}, not a {kind}")


# --- what is made of them ------------------------------------------------------------------------------


def tokenizer_of(parts: Parts) -> MultiScaleTokenizer:
    """The tokenizer."""
    config, weights = parts["tokenizer"]
    return ready(build_tokenizer(TokenizerConfig.from_json(config)), weights)


def transformer_of(parts: Parts, name: str = "transformer") -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """The transformer, or the ``start`` of a preference run, and the tokenizer."""
    (entry, weights), tokenizer = parts[name], tokenizer_of(parts)
    return ready(build_transformer(entry, tokenizer), weights), tokenizer


def addition_of(parts: Parts, kind: str = "fidelity", make: type[nn.Module] = Fidelity) -> nn.Module | None:
    """What was trained over the transformer; None where nothing was."""
    if kind not in parts:
        return None
    config, weights = parts[kind]
    return ready(make(**config), weights)


def cnn_of(parts: Parts) -> CnnSuperResolver:
    """The convolutional super-resolver."""
    config, weights = parts["cnn"]
    return ready(CnnSuperResolver(CnnConfig.from_json(config)), weights)


def load_tokenizer(source: str | Path = "hit") -> MultiScaleTokenizer:
    """A tokenizer: ``vq`` (chapter 02), ``var`` (04) or ``hit`` (05); of any run that has one; or VAR's official file.

    Raises:
        UserError: no such model, unreadable, or changed since it was published. So all functions below.
    """
    if is_official(source):
        from vartutor.weights.official_tokenizer import load_vqvae

        return load_vqvae(source)
    return _load("tokenizer", source, tokenizer_of)


def load_hierarchical(source: str | Path = "hit") -> HierarchicalTokenizer:
    """A tokenizer that a transformer for photos can be trained over, and no other."""
    tokenizer = load_tokenizer(source)
    if not isinstance(tokenizer, HierarchicalTokenizer):
        raise UserError(f"{source}: not a hierarchical tokenizer; train one with --set ladder=hit")
    return tokenizer


def load_restorer(source: str | Path = "course") -> Restorer:
    """What restores photos; what was trained over a transformer comes along: shipped with it, or of the same run."""
    return _load("transformer", source, lambda parts: Restorer(*transformer_of(parts), addition_of(parts)))


def load_addition(kind: str, make: type[nn.Module], source: str | Path = "course") -> nn.Module | None:
    """Another module that was trained over a transformer, such as a ``refiner``; None where there is none."""
    return _load("transformer", source, lambda parts: addition_of(parts, kind, make))


def load_start(source: str | Path = "course") -> tuple[PhotoTransformer, HierarchicalTokenizer, dict]:
    """What can be fine-tuned: a transformer, its tokenizer, and the objective of its training, as plain values."""
    return _load("transformer", source, lambda parts: (*transformer_of(parts), parts["transformer"][0]["objective"]))


def load_cnn(source: str | Path = "course") -> CnnSuperResolver:
    """A convolutional super-resolver."""
    return _load("cnn", source, cnn_of)
