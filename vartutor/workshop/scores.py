"""Restore or reconstruct the fixed test photos of the course, and compare with the clean ones."""

import torch
from torch import Generator, Tensor

from vartutor.data.crops import eval_crops
from vartutor.data.pairs import Pairs, eval_pairs, pyramid
from vartutor.data.presets import COURSE
from vartutor.metrics import psnr
from vartutor.perceptual import perceptual_distance
from vartutor.profiles import Profile
from vartutor.tokenizer.fidelity import BALANCED, decode_faithfully
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.tokenizer import reconstruct_scales
from vartutor.transformer.photo import restore_latents
from vartutor.weights import Restorer

DECODES = {"sampled": {}, "expected": {"expected": True}}  # the two ways a transformer is judged
LOOKS = {f"fidelity {w:g}": {"w": w} for w in (0, BALANCED, 1)}  # those of a fidelity module


@torch.no_grad()
def restore_pairs(
    restorer: Restorer,
    pairs: Pairs,
    *,
    w: float = 0.0,
    seed: int = 0,
    batch: int = 16,
    **options,
) -> dict[int, Tensor]:
    """Every degraded photo of ``pairs`` restored as one tile: {s: (N, 3, H_s, W_s) in [-1, 1]}, at all scales it has.

    Args:
        w: fidelity.
        **options: as for :func:`vartutor.transformer.photo.restore_latents`. What an add-on draws comes from a
            generator of its own, so that the tokens are the same without it.
    """
    model, tokenizer, fidelity = restorer
    generator, other = (Generator().manual_seed(seed) for _ in range(2))
    images = {s: [] for s in tokenizer.scales}
    for photo in pairs.lr.split(batch):
        seen = model.first(photo)
        options |= {"first": lambda *_, seen=seen: seen, "generators": [other] * len(photo)}
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
    """Means over pairs, by measure and scale, given what was made of their degraded photos, {s: (N, 3, H_s, W_s)}.

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


@torch.no_grad()
def score_tokenizer(model: MultiScaleTokenizer, profile: Profile, split: str = "test") -> dict[int, Tensor]:
    """RGB-PSNR in dB of every fixed crop of a split, by scale: {s: (N,)}; the plain tokenizer has the largest only."""
    x, _ = eval_crops(split, profile.image_size, profile.eval_crops)
    found = {}
    for part in x.split(16):
        target = pyramid(part, profile.scales)
        for s, image in reconstruct_scales(model, part).items():
            found.setdefault(s, []).append(psnr(image, target[s], color="rgb"))
    return {s: torch.cat(values) for s, values in found.items()}


@torch.no_grad()
def codes_used(model: MultiScaleTokenizer, profile: Profile) -> float:
    """Share of the codebook that the test crops use at any scale, 0 to 1."""
    x, _ = eval_crops("test", profile.image_size, profile.eval_crops)
    indices = [idx.flatten() for part in x.split(16) for idx in model.tokenize(part)]
    return len(torch.cat(indices).unique()) / len(model.quantizer.codes)
