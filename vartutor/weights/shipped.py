"""The models that the course ships, as ``assets/checkpoints/manifest.json`` describes them."""

from torch import nn

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.checkpoints import checkpoint_name, load_checkpoint, manifest, shipped
from vartutor.errors import UserError
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.transformer.photo import PhotoTransformer, build_transformer
from vartutor.weights.files import load_strictly


def shipped_tokenizer(name: str) -> MultiScaleTokenizer:
    """``vq`` (chapter 02), ``var`` (04) or ``hit`` (05)."""
    return _filled("tokenizer", name, lambda entry: build_tokenizer(TokenizerConfig.from_json(entry["config"])))


def shipped_transformer(name: str) -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """A transformer and the tokenizer that it was trained over.

    Raises:
        UserError: that tokenizer is not the one that is shipped now.
    """
    entry, tokenizer = manifest()[checkpoint_name("transformer", name)], shipped_tokenizer("hit")
    if entry["tokenizer"] != manifest()[checkpoint_name("tokenizer", "hit")]["sha256"]:
        raise UserError(f"transformer {name!r} was trained over another tokenizer than the one that is shipped now")
    return _filled("transformer", name, lambda entry: build_transformer(entry, tokenizer)), tokenizer


def shipped_cnn(name: str) -> CnnSuperResolver:
    """A convolutional super-resolver."""
    return _filled("cnn", name, lambda entry: CnnSuperResolver(CnnConfig.from_json(entry["config"])))


def shipped_addition(kind: str, make: type[nn.Module], name: str) -> nn.Module | None:
    """What was trained over a transformer, such as its ``fidelity`` module; None where its weights have none."""
    entry = manifest().get(checkpoint_name(kind, name))
    if entry is None or entry["transformer"] != manifest()[checkpoint_name("transformer", name)]["sha256"]:
        return None
    return _filled(kind, name, lambda entry: make(**entry["config"]))


def shipped_fidelity(name: str) -> Fidelity | None:
    """The fidelity module of a transformer."""
    return shipped_addition("fidelity", Fidelity, name)


def objective_of(name: str) -> dict:
    """What a transformer was trained for, as plain values."""
    return manifest()[checkpoint_name("transformer", name)]["objective"]


def _filled(kind: str, name: str, build) -> nn.Module:
    """The model with its weights, in evaluation mode, without gradients."""
    if name not in (names := shipped(kind)):
        raise UserError(f"no {kind} {name!r}: choose one of {', '.join(names) or 'none, for none is shipped'}")
    file = checkpoint_name(kind, name)
    state = load_checkpoint(file)
    model = build(manifest()[file])
    load_strictly(model, state)
    return model.eval().requires_grad_(False)
