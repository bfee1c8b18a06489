"""From a profile to an untrained transformer, and what its training state says of it."""

from dataclasses import asdict

from vartutor.baselines.cnn import CnnSuperResolver
from vartutor.errors import UserError
from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.transformer import Objective
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer


def make_transformer(
    profile: Profile,
    tokenizer: HierarchicalTokenizer,
    *,
    prefix: bool = True,
    prior: bool = True,
    added: bool = False,
    encoded: bool = False,
    drop: float = 0.0,
    restorer: CnnSuperResolver | None = None,
) -> PhotoTransformer:
    """An untrained transformer of the profile's size.

    Args:
        prefix, prior, added, encoded, restorer: see :class:`PhotoTransformer`.
        drop: share of the photos that will not be shown in training.

    Raises:
        UserError: photos are to be dropped, but there is no prefix that shows them.
    """
    if drop and not prefix:
        raise UserError("photos can be dropped where a prefix shows them")
    config = make_config(profile, tokenizer, classes=2 if drop else 1)
    options = {"prefix": prefix, "prior": prior, "patch": profile.transformer.patch, "added": added}
    return PhotoTransformer(config, tokenizer.quantizer.codes, **options, encoded=encoded, restorer=restorer)


def make_config(profile: Profile, tokenizer: HierarchicalTokenizer, classes: int = 1) -> TransformerConfig:
    """The profile's sizes, for the token maps and codes of a tokenizer."""
    recipe, quantizer = profile.transformer, tokenizer.quantizer
    codes, channels = quantizer.codes.shape
    sizes = recipe.width, recipe.depth, recipe.heads
    options = {"classes": classes, "rope": recipe.rope, "checkpointing": recipe.checkpointing}
    return TransformerConfig(quantizer.patch_nums, codes, channels, *sizes, **options)


def describe(kind: str, model: PhotoTransformer, tokenizer: HierarchicalTokenizer, objective: Objective) -> dict:
    """What a training state says of its transformer, so that it can be built again."""
    names = {"kind": kind, "tokenizer": tokenizer.config.to_json(), **model.settings}
    return names | {"objective": asdict(objective)}
