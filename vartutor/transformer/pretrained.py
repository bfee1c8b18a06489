"""The transformers that the course ships."""

from vartutor.checkpoints import load_checkpoint, manifest
from vartutor.errors import UserError
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.official import load_strictly
from vartutor.tokenizer.pretrained import load_pretrained
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer

PREFIX, SUFFIX = "transformer_", ".safetensors"


def checkpoint_name(name: str) -> str:
    """File name of a shipped transformer in ``assets/checkpoints``."""
    return f"{PREFIX}{name}{SUFFIX}"


def load_pretrained_transformer(name: str = "course") -> tuple[PhotoTransformer, HierarchicalTokenizer]:
    """A trained transformer and the tokenizer it was trained over, in evaluation mode, without gradients.

    Raises:
        UserError: unknown name; a checkpoint that is missing or changed.
    """
    listed = manifest()
    if checkpoint_name(name) not in listed:
        names = [file.removeprefix(PREFIX).removesuffix(SUFFIX) for file in listed if file.startswith(PREFIX)]
        raise UserError(
            f"no transformer {name!r}: choose one of {', '.join(sorted(names)) or 'none, for none is shipped'}"
        )
    entry = listed[checkpoint_name(name)]
    tokenizer = load_pretrained("hit")
    config = TransformerConfig(**entry["config"] | {"patch_nums": tuple(entry["config"]["patch_nums"])})
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prefix=entry["prefix"], prior=entry["prior"])
    load_strictly(model, load_checkpoint(checkpoint_name(name)))
    return model.eval().requires_grad_(False), tokenizer
