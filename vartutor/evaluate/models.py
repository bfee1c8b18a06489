"""The models of an evaluation: shipped ones by name, or those of a training run by its folder."""

from pathlib import Path

from vartutor.baselines.cnn import CnnSuperResolver
from vartutor.baselines.pretrained import load_pretrained_cnn
from vartutor.errors import UserError
from vartutor.superres import SuperResolver
from vartutor.tokenizer.pretrained import load_pretrained
from vartutor.train.baseline import trained_cnn
from vartutor.train.checkpoint import load_state
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer


def find_cnn(source: str) -> CnnSuperResolver:
    """A convolutional net.

    Raises:
        UserError: no such name, or a folder without the state of such a net.
    """
    if not Path(source).is_dir():
        return load_pretrained_cnn(source)
    try:
        return trained_cnn(load_state(Path(source) / "state.pt"))
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def find_model(source: str) -> SuperResolver:
    """A transformer with its tokenizer; that of a run goes with the shipped tokenizer ``hit``.

    Raises:
        UserError: no such name, or a folder without the state of a transformer.
    """
    if not Path(source).is_dir():
        return SuperResolver.from_pretrained(source)
    state, tokenizer = load_state(Path(source) / "state.pt"), load_pretrained("hit")
    info = state.get("info", {})
    if "prior" not in info:
        raise UserError(f"{source}: this training state holds no transformer")
    config = TransformerConfig(**info["config"] | {"patch_nums": tuple(info["config"]["patch_nums"])})
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prefix=info["prefix"], prior=info["prior"])
    model.load_state_dict(state["averaged"])
    return SuperResolver(model.half().float().eval().requires_grad_(False), tokenizer)
