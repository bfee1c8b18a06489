"""The tokenizers that the course ships."""

from vartutor.checkpoints import checkpoint_name, load_checkpoint, manifest
from vartutor.errors import UserError
from vartutor.tokenizer.build import LADDERS, TokenizerConfig, build_tokenizer
from vartutor.tokenizer.official import load_strictly
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer


def load_pretrained(name: str) -> MultiScaleTokenizer:
    """A trained tokenizer: ``vq`` (chapter 02), ``var`` (04) or ``hit`` (05).

    Returns:
        the tokenizer in evaluation mode, without gradients; its weights were trained by the command that
        ``assets/checkpoints/manifest.json`` gives.

    Raises:
        UserError: unknown name; a checkpoint that is missing or changed.
    """
    if name not in LADDERS:
        raise UserError(f"no tokenizer {name!r}: choose one of {', '.join(LADDERS)}")
    file = checkpoint_name("tokenizer", name)
    state = load_checkpoint(file)
    model = build_tokenizer(TokenizerConfig.from_json(manifest()[file]["config"]))
    load_strictly(model, state)
    return model.eval().requires_grad_(False)
