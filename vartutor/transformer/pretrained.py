"""The transformers that the course ships."""

from vartutor.checkpoints import load_checkpoint, manifest
from vartutor.errors import UserError
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.official import load_strictly
from vartutor.tokenizer.pretrained import load_pretrained
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer

PREFIX, SUFFIX = "transformer_", ".safetensors"


def checkpoint_name(name: str) -> str:
    """File name of a shipped transformer in ``assets/checkpoints``."""
    return f"{PREFIX}{name}{SUFFIX}"


def fidelity_name(name: str) -> str:
    """File name of the fidelity module that belongs to a shipped transformer."""
    return f"fidelity_{name}{SUFFIX}"


def shipped_transformers() -> list[str]:
    """Names that :func:`load_pretrained_transformer` knows."""
    return sorted(file.removeprefix(PREFIX).removesuffix(SUFFIX) for file in manifest() if file.startswith(PREFIX))


def build_transformer(entry: dict, tokenizer: HierarchicalTokenizer) -> PhotoTransformer:
    """An untrained transformer as a manifest or a training state describes it: ``config``, ``prefix``, ``prior``."""
    config = TransformerConfig(**entry["config"] | {"patch_nums": tuple(entry["config"]["patch_nums"])})
    return PhotoTransformer(config, tokenizer.quantizer.codes, prefix=entry["prefix"], prior=entry["prior"])


def load_pretrained_transformer(name: str = "course") -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """A trained transformer and the tokenizer it was trained over, in evaluation mode, without gradients.

    Raises:
        UserError: unknown name; a checkpoint that is missing or changed.
    """
    if name not in (names := shipped_transformers()):
        raise UserError(f"no transformer {name!r}: choose one of {', '.join(names) or 'none, for none is shipped'}")
    tokenizer = load_pretrained("hit")
    model = build_transformer(manifest()[checkpoint_name(name)], tokenizer)
    load_strictly(model, load_checkpoint(checkpoint_name(name)))
    return model.eval().requires_grad_(False), tokenizer


def load_pretrained_fidelity(name: str = "course") -> Fidelity | None:
    """The fidelity module that was trained for a shipped transformer; None where there is none.

    Raises:
        UserError: a checkpoint that is missing or changed.
    """
    file = fidelity_name(name)
    if file not in manifest():
        return None
    fidelity = Fidelity(**manifest()[file]["config"])
    load_strictly(fidelity, load_checkpoint(file))
    return fidelity.eval().requires_grad_(False)
