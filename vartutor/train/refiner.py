"""Train the diffusion refiner: transformer, tokenizer and so all tokens stay frozen."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.errors import UserError
from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.addition import train_addition
from vartutor.train.cache import BatchCache
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.transformer.generate import iterate
from vartutor.transformer.photo import PhotoTransformer, pair_features
from vartutor.transformer.refiner import Refiner


@dataclass(frozen=True)
class RefinerObjective:
    """Whose tokens the residuals are left by."""

    forced: bool = False  # true tokens, as VARSR trains, instead of the transformer's own
    temperature: float = 1.0  # of its own tokens
    expected: bool = False  # mean codes instead of sampled ones

    def __post_init__(self):
        if self.temperature <= 0:
            raise UserError(f"temperature {self.temperature:g}: give a number above 0")


class ResidualCache(BatchCache):
    """What the transformer wrote for pairs of photos, once; used for several epochs, each with other noise.

    A batch, of the finest map: hidden states (B, n, D), the vectors said (B, n, C), and the residuals that are left
    (B, n, C).

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
        objective: RefinerObjective,
        *,
        batches: int = 32,
        epochs: int = 16,
        seed: int = 0,
    ):
        self.model, self.tokenizer, self.crops, self.preset = model, tokenizer, crops, preset
        self.objective = objective
        sources = {"crops": crops.generator, "own": Generator().manual_seed(seed)}
        super().__init__(self._draw, sources, batches, epochs)

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        own, quantizer = self.generators["own"], self.tokenizer.quantizer
        pairs = make_pairs(self.crops.batch(), self.preset, own)
        clean, degraded = pair_features(self.tokenizer, pairs.lr, pairs.hr[max(pairs.hr)])
        given = quantizer.tokenize(clean) if self.objective.forced else ()
        options = {"temperature": self.objective.temperature, "expected": self.objective.expected}
        condition = self.model.condition(pairs.lr, degraded)
        *_, last = iterate(self.model.body, self.tokenizer, condition, generator=own, given=given, **options)
        return last.hidden, last.said, (clean[-1] - last.f_hat).flatten(2).transpose(1, 2)


class RefinerLoss:
    """Error of the noise and variational bound, VARSR's sum of both, once per step."""

    def __init__(self, refiner: Refiner, cache: ResidualCache, generator: Generator, bf16: bool = False):
        self.refiner, self.cache, self.generator, self.bf16 = refiner, cache, generator, bf16

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch, and its two parts."""
        hidden, said, rest = self.cache.batch()
        with torch.autocast(hidden.device.type, torch.bfloat16, enabled=self.bf16):
            error, bound = self.refiner.losses(hidden, said, rest, self.generator)
        return error + bound, {"error": error.item(), "bound": bound.item()}


def train_refiner(
    profile: Profile,
    model: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    out: Path,
    *,
    objective: RefinerObjective = RefinerObjective(),
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
        UserError: a state that is missing, unreadable or of another model.
    """
    torch.manual_seed(seed)
    recipe, generator = profile.transformer, Generator().manual_seed(seed)
    refiner = Refiner.of(model.config, recipe.refiner_width, recipe.refiner_blocks)
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=seed)
    cache = ResidualCache(model, tokenizer, crops, preset, objective, seed=seed)
    if not resume:
        refiner.calibrate(cache.batch()[2])
    schedule = LoopConfig(steps=steps or recipe.refiner_steps, lr=lr)
    loss, frozen = RefinerLoss(refiner, cache, generator, bf16), (model, tokenizer)
    more = {"objective": objective, "generators": [generator], "seed": seed, "resume": resume, "origin": origin}
    return train_addition("refiner", refiner, loss, cache, *frozen, out, schedule, **more)
