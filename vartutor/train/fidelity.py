"""Train the fidelity module: transformer, tokenizer and so all tokens stay frozen."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation
from vartutor.data.pairs import make_pairs, upscale_bicubic
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.profiles import Profile
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.addition import train_addition
from vartutor.train.cache import BatchCache
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.transformer.photo import PhotoTransformer, restore_latents


@dataclass(frozen=True)
class FidelityObjective:
    """What is learned, by how large a module, and on what decode of which photos."""

    perceptual: float = 0.05  # weight of the perceptual distance beside the mean absolute error
    temperature: float = 1.0  # of the tokens that the decoder sees in training
    expected: bool = False  # mean codes instead of sampled ones
    augment: bool = False  # turned and recoloured crops, see RandomCrops
    hidden: int = 64  # the module's channels, and its residual blocks
    depth: int = 6

    def __post_init__(self):
        if self.perceptual < 0 or self.temperature <= 0:
            raise UserError(f"perceptual {self.perceptual:g}, temperature {self.temperature:g}: from 0 on, and above 0")
        if self.hidden < 1 or self.depth < 0:
            raise UserError(f"hidden {self.hidden}, depth {self.depth}: at least 1, and from 0 on")


class LatentCache(BatchCache):
    """Pairs of photos for which the transformer wrote its tokens once; used for several epochs.

    A batch: degraded photos (B, 3, h, w), f_hat by scale, and the clean photos by scale.

    Args:
        batches: how many are kept.
        epochs: how often each is used; writing one costs far more than a step.
        seed: seeds the degradation and the sampling.
    """

    def __init__(
        self,
        model: PhotoTransformer,
        tokenizer: HierarchicalTokenizer,
        crops: RandomCrops,
        preset: Degradation,
        objective: FidelityObjective,
        *,
        batches: int = 32,
        epochs: int = 8,
        seed: int = 0,
    ):
        self.model, self.tokenizer, self.crops, self.preset = model, tokenizer, crops, preset
        self.options = {"temperature": objective.temperature, "expected": objective.expected}
        sources = {"crops": crops.generator, "own": Generator().manual_seed(seed)}
        super().__init__(self._draw, sources, batches, epochs)

    def _draw(self) -> tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]:
        own = self.generators["own"]
        pairs = make_pairs(self.crops.batch(), self.preset, own)
        f_hats = restore_latents(self.model, self.tokenizer, pairs.lr, generator=own, **self.options)
        return pairs.lr, f_hats, pairs.hr


class FidelityLoss:
    """Decodes a batch with the full look at the photo (w = 1), and compares it with the clean photos, once per step."""

    def __init__(self, fidelity: Fidelity, cache: LatentCache, objective: FidelityObjective, bf16: bool = False):
        self.fidelity, self.cache, self.bf16, self.weight = fidelity, cache, bf16, objective.perceptual
        self.perceptual = PerceptualDistance() if objective.perceptual else None

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch, and its PSNR per scale."""
        tokenizer, (photo, f_hats, clean) = self.cache.tokenizer, self.cache.batch()
        seen, loss, numbers = upscale_bicubic(photo), 0.0, {}
        for s, f_hat in f_hats.items():
            with torch.autocast(photo.device.type, torch.bfloat16, enabled=self.bf16):
                image = self.fidelity(tokenizer.decoder, tokenizer.post_quant_conv(f_hat), seen[s], s)
            image = image.float()
            loss = loss + F.l1_loss(image, clean[s])
            if self.perceptual is not None:
                loss = loss + self.weight * self.perceptual(image, clean[s]).mean()
            numbers[f"psnr{s}"] = psnr(image.detach(), clean[s], color="rgb").mean().item()
        return loss, numbers


def train_fidelity(
    profile: Profile,
    model: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    out: Path,
    *,
    objective: FidelityObjective = FidelityObjective(),
    preset: Degradation = COURSE,
    lr: float = 1e-3,
    seed: int = 0,
    steps: int | None = None,
    bf16: bool = False,
    resume: bool = False,
    origin: dict | None = None,
) -> Trainer:
    """Train on pairs made from the training photos; writes ``state.pt`` and ``log.csv`` to ``out``.

    The state holds transformer and tokenizer too, so a run needs nothing beside it, and restores photos as it is.

    Args:
        model, tokenizer: frozen.
        steps: instead of the profile's.
        resume: go on from the state in ``out``, with its models and the same numbers as if never stopped.
        origin: kept with the state, such as the command and the commit.

    Raises:
        UserError: a tokenizer without the small autoencoder; a state that is missing, unreadable or of another model.
    """
    torch.manual_seed(seed)
    fidelity = Fidelity.of(tokenizer, objective.hidden, objective.depth)
    shape = profile.image_size, profile.batch_size
    crops = RandomCrops(load_pixels("train"), *shape, augment=objective.augment, seed=seed)
    cache = LatentCache(model, tokenizer, crops, preset, objective, seed=seed)
    schedule = LoopConfig(steps=steps or profile.transformer.fidelity_steps, lr=lr)
    loss, frozen = FidelityLoss(fidelity, cache, objective, bf16), (model, tokenizer)
    more = {"objective": objective, "generators": [], "seed": seed, "resume": resume, "origin": origin}
    return train_addition("fidelity", fidelity, loss, cache, *frozen, out, schedule, **more)
