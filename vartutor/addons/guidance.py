"""Guidance: token maps that move away from what the model would say of another photo, or of none.

VARSR's image-based guidance moves away from a class of bad images, on which it trained too (Qu et al., 2025). A worse
photo in place of the class needs no training: that is ours. No photo at all is classifier-free guidance (Ho and
Salimans, 2022).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vartutor.data.degradation import blur
from vartutor.data.kernels import gaussian_kernel
from vartutor.errors import UserError
from vartutor.transformer.condition import Condition
from vartutor.transformer.generate import Step, iterate
from vartutor.transformer.photo import PhotoTransformer, photo_features

NEGATIVES = ("null", "photo")  # what guidance moves away from: no photo, or a worse one


class Guided:
    """Writes token maps away from a negative, where :func:`vartutor.transformer.photo.write_maps` does without.

    Args:
        guidance: c of :func:`vartutor.transformer.generate.iterate`, other than 0.
        negative: ``null``: the photo is not shown; ``photo``: a worse one is, see :func:`worsen`.

    Raises:
        UserError: another negative, or a guidance that is no finite number.
    """

    def __init__(self, guidance: float, negative: str = "null"):
        if negative not in NEGATIVES:
            raise UserError(f"negative {negative!r}: choose {' or '.join(NEGATIVES)}")
        if not math.isfinite(guidance):
            raise UserError(f"guidance {guidance:g}: give a number, 0 for none")
        self.guidance, self.negative = guidance, negative

    def check(self, model: PhotoTransformer) -> None:
        """Whether a model knows the negative.

        Raises:
            UserError: trained without dropping the photo now and then.
        """
        if self.negative == "null" and model.config.classes < 2:
            raise UserError("this model knows no null class: train it with objective.drop=0.1, or take negative photo")

    @torch.no_grad()
    def __call__(self, model, tokenizer, photo: Tensor, *, first=None, generators=(), **options) -> Iterator[Step]:
        """For photos (B, 3, h, w); all as of ``write_maps``."""
        self.check(model)
        features = photo_features(tokenizer, photo, first or model.first)
        condition, null = model.condition(photo, features), self.away(model, tokenizer, photo, features)
        return iterate(model.body, tokenizer, condition, null=null, guidance=self.guidance, **options)

    def away(self, model: PhotoTransformer, tokenizer, photo: Tensor, features: tuple[Tensor, ...]) -> Condition:
        """What guidance moves away from; photo (B, 3, h, w) and features as of :meth:`PhotoTransformer.condition`."""
        if self.negative == "null":
            labels = torch.full((len(photo),), model.config.classes - 1, device=photo.device)
            return model.condition(photo, features, labels)
        worse = worsen(photo)
        return model.condition(worse, photo_features(tokenizer, worse, model.first))


def worsen(photo: Tensor) -> Tensor:
    """The degraded photo (B, 3, h, w), blurred once more, with a Gaussian of one pixel."""
    return blur(photo, gaussian_kernel(7, 1.0))
