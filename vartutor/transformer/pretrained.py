"""The transformers that the course ships."""

from vartutor.checkpoints import checkpoint_name, load_checkpoint, manifest, shipped
from vartutor.errors import UserError
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.official import load_strictly
from vartutor.tokenizer.pretrained import load_pretrained
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer
from vartutor.transformer.refiner import Refiner


def build_transformer(entry: dict, tokenizer: HierarchicalTokenizer) -> PhotoTransformer:
    """An untrained transformer as a manifest or a training state describes it: ``config``, ``prefix``, ``prior``."""
    config = TransformerConfig(**entry["config"] | {"patch_nums": tuple(entry["config"]["patch_nums"])})
    options = {name: entry[name] for name in ("prefix", "prior", "patch", "added") if name in entry}
    return PhotoTransformer(config, tokenizer.quantizer.codes, **options)


def load_pretrained_transformer(name: str = "course") -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """A trained transformer and the tokenizer it was trained over, in evaluation mode, without gradients.

    Raises:
        UserError: unknown name; a checkpoint that is missing or changed; a tokenizer that is not the one it was
            trained over.
    """
    if name not in (names := shipped("transformer")):
        raise UserError(f"no transformer {name!r}: choose one of {', '.join(names) or 'none, for none is shipped'}")
    entry, tokenizer = manifest()[checkpoint_name("transformer", name)], load_pretrained("hit")
    if entry["tokenizer"] != manifest()[checkpoint_name("tokenizer", "hit")]["sha256"]:
        raise UserError(f"transformer {name!r} was trained over another tokenizer than the one that is shipped now")
    model = build_transformer(entry, tokenizer)
    load_strictly(model, load_checkpoint(checkpoint_name("transformer", name)))
    return model.eval().requires_grad_(False), tokenizer


def load_pretrained_fidelity(name: str = "course") -> Fidelity | None:
    """The fidelity module that was trained for a shipped transformer; None where there is none for its weights.

    Raises:
        UserError: a checkpoint that is missing or changed.
    """
    return _load_addition(Fidelity, "fidelity", name)


def load_pretrained_refiner(name: str = "course") -> Refiner | None:
    """The refiner that was trained for a shipped transformer; None where there is none for its weights.

    Raises:
        UserError: a checkpoint that is missing or changed.
    """
    return _load_addition(Refiner, "refiner", name)


def _load_addition(make: type, kind: str, name: str) -> Fidelity | Refiner | None:
    entry = manifest().get(checkpoint_name(kind, name))
    if entry is None or entry["transformer"] != manifest()[checkpoint_name("transformer", name)]["sha256"]:
        return None
    addition = make(**entry["config"])
    load_strictly(addition, load_checkpoint(checkpoint_name(kind, name)))
    return addition.eval().requires_grad_(False)
