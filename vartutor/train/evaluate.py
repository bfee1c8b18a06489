"""Restore the fixed pairs of a split, and compare with the clean photos."""

import torch
from torch import Generator, Tensor

from vartutor.data.pairs import Pairs, eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.metrics import psnr
from vartutor.perceptual import perceptual_distance
from vartutor.profiles import Profile
from vartutor.tokenizer.fidelity import BALANCED, decode_faithfully
from vartutor.train.runs import Restorer
from vartutor.transformer.photo import restore_latents

DECODES = {"sampled": {}, "expected": {"expected": True}}  # the two ways a transformer is judged
LOOKS = {f"fidelity {w:g}": {"w": w} for w in (0, BALANCED, 1)}  # those of a fidelity module
REFINED = {"plain": {}} | {f"refined, temperature {t}": {"refine": t} for t in (0, 1)}  # and a refiner


@torch.no_grad()
def restore_pairs(
    restorer: Restorer,
    pairs: Pairs,
    *,
    w: float = 0.0,
    refine: float | None = None,
    seed: int = 0,
    batch: int = 16,
    **options,
) -> dict[int, Tensor]:
    """Every degraded photo of ``pairs`` restored as one tile: {s: (N, 3, H_s, W_s) in [-1, 1]}, at all scales it has.

    Args:
        w: fidelity.
        refine: the refiner goes over the finest map, at this temperature; it draws from a generator of its own, so
            that the tokens are the same without it.
        **options: as for :func:`vartutor.transformer.photo.restore_latents`.
    """
    model, tokenizer, fidelity, refiner = restorer
    generator, draws, images = *(Generator().manual_seed(seed) for _ in range(2)), {s: [] for s in tokenizer.scales}
    for photo in pairs.lr.split(batch):
        seen = upscale_bicubic(photo)
        if refine is not None:
            noise = refiner.draw(len(photo), model.config.patch_nums[-1] ** 2, draws)
            options |= {"refine": refine, "refiner": refiner, "noise": noise}
        for s, f_hat in restore_latents(model, tokenizer, photo, generator=generator, **options).items():
            images[s].append(decode_faithfully(tokenizer, fidelity, f_hat, seen[s], s, w))
    return {s: torch.cat(parts) for s, parts in images.items()}


def course_pairs(profile: Profile, split: str = "test") -> Pairs:
    """The fixed pairs of a split, degraded with the course's preset."""
    return eval_pairs(COURSE, split, profile.image_size, profile.eval_crops)


def score_restorer(restorer: Restorer, profile: Profile, split: str = "test", **options) -> dict[str, dict[str, float]]:
    """:func:`score_images` of :func:`course_pairs`; options as for :func:`restore_pairs`."""
    pairs = course_pairs(profile, split)
    return score_images(restore_pairs(restorer, pairs, **options), pairs)


@torch.no_grad()
def score_images(images: dict[int, Tensor], pairs: Pairs) -> dict[str, dict[str, float]]:
    """Means over pairs, by measure and scale, given what was made of their degraded photos.

    Returns:
        ``psnr_rgb`` in dB, and ``perceptual`` of :mod:`vartutor.perceptual`.
    """
    measures = {
        "psnr_rgb": (2, lambda x, y: psnr(x, y, color="rgb")),
        "perceptual": (4, perceptual_distance),
    }
    return {
        name: {str(s): round(measure(image, pairs.hr[s]).mean().item(), digits) for s, image in images.items()}
        for name, (digits, measure) in measures.items()
    }
