"""Train the transformer that restores photos, over a frozen tokenizer."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, force, photo_features

BARE = ("pos", "pos_start", "level.weight", "offset", "log_scale", "log_alpha")  # no weight decay, as in VAR


@dataclass(frozen=True)
class Objective:
    """What the transformer is asked for, and what it sees meanwhile."""

    hard: float = 1.0  # weight of the cross entropy with the nearest codes, the paper's loss
    soft: float = 0.0  # of the cross entropy with softmax(-‖goal - e‖² / tau): near codes are nearly right
    tau: float = 0.3
    expected: float = 0.0  # of the squared error of the expected code
    slip: float = 0.0  # largest share of tokens replaced in the input; see `force`


class FeatureCache:
    """Pairs of photos whose latents are computed once and used for several epochs.

    The tokens themselves are not cached: with slips they differ each time.

    Args:
        batches: how many are kept.
        epochs: how often each is used before all are drawn anew.
        seed: seeds the degradation.
    """

    def __init__(
        self,
        tokenizer: HierarchicalTokenizer,
        crops: RandomCrops,
        preset: Degradation,
        *,
        batches: int = 64,
        epochs: int = 1,
        seed: int = 0,
    ):
        self.tokenizer, self.crops, self.preset, self.epochs = tokenizer, crops, preset, epochs
        self.generator = Generator().manual_seed(seed)
        self.kept: list[tuple] = []
        self.batches, self.used = batches, 0

    def batch(self) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Degraded photos (B, 3, h, w), and the features of the clean and of the degraded ones by scale group."""
        if not self.kept or self.used == self.epochs * self.batches:
            self._fill()
        self.used += 1
        return self.kept[(self.used - 1) % self.batches]

    @torch.no_grad()
    def _fill(self) -> None:
        self.filled_from = self.crops.generator.get_state(), self.generator.get_state()
        self.kept, self.used = [], 0
        for _ in range(self.batches):
            pairs = make_pairs(self.crops.batch(), self.preset, self.generator)
            clean = tuple(self.tokenizer.encode(pairs.hr[max(pairs.hr)]))
            self.kept.append((pairs.lr, clean, photo_features(self.tokenizer, pairs.lr)))

    def state_dict(self) -> dict:
        """From where it was filled, and how much of it is used."""
        crops, own = self.filled_from
        return {"crops": crops, "own": own, "used": self.used}

    def load_state_dict(self, state: dict) -> None:
        """Fill again from the same random numbers, and stand where the state stood."""
        self.crops.generator.set_state(state["crops"])
        self.generator.set_state(state["own"])
        self._fill()
        self.used = state["used"]


class TransformerLoss:
    """Draws a batch, predicts its tokens, and weighs the errors; called by :class:`Trainer` once per step."""

    def __init__(self, model: PhotoTransformer, cache: FeatureCache, objective: Objective, bf16: bool = False):
        self.model, self.cache, self.objective, self.bf16 = model, cache, objective, bf16

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch; its cross entropy, and per scale the share of right tokens."""
        w, tokenizer = self.objective, self.cache.tokenizer
        photo, clean, degraded = self.cache.batch()
        targets, goals, inputs, rests = force(tokenizer, clean, degraded, w.slip)
        with torch.autocast(photo.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model.body(self.model.condition(photo, degraded), inputs, rests)
        loss, entropy = self._weigh(logits, targets, goals, tokenizer.quantizer.codes)
        squares = [p * p for p in self.model.config.patch_nums]
        right = (logits.argmax(-1) == targets).float().split(squares, 1)
        return loss, {"ce": entropy.item(), **{f"right/{k}": part.mean().item() for k, part in enumerate(right)}}

    def _weigh(self, logits: Tensor, targets: Tensor, goals: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        w = self.objective
        logp = logits.log_softmax(-1)
        entropy = F.nll_loss(logp.flatten(0, 1), targets.flatten())
        loss = w.hard * entropy
        if w.soft:
            near = ((2 * goals @ codes.T - codes.square().sum(1)) / w.tau).softmax(-1)
            loss = loss - w.soft * (near * logp).sum(-1).mean()
        if w.expected:
            loss = loss + w.expected * F.mse_loss(logp.exp() @ codes, goals)
        return loss, entropy


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """VAR's rule: matrices and the class table decay; vectors, biases and tables of positions do not."""
    decayed, bare = [], []
    for name, parameter in model.named_parameters():
        stay = parameter.ndim <= 1 or name.endswith("bias") or name.endswith(BARE)
        (bare if stay else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": bare, "weight_decay": 0.0}]


def train_transformer(
    profile: Profile,
    tokenizer: HierarchicalTokenizer,
    out: Path,
    *,
    config: TransformerConfig,
    prefix: bool = True,
    prior: bool = True,
    objective: Objective = Objective(),
    preset: Degradation = COURSE,
    lr: float = 1e-3,
    seed: int = 0,
    steps: int = 1000,
    bf16: bool = False,
    resume: bool = False,
    origin: dict | None = None,
) -> Trainer:
    """Train on pairs made from the training photos; writes ``state.pt`` and ``log.csv`` to ``out``.

    Args:
        prefix, prior: see :class:`PhotoTransformer`.
        resume: go on from the state in ``out``, with the same numbers as if never stopped.
        origin: kept with the state, such as the command and the commit.

    Raises:
        UserError: a state that is missing, unreadable or of another model.
    """
    torch.manual_seed(seed)
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prefix=prefix, prior=prior)
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=seed)
    cache = FeatureCache(tokenizer, crops, preset, seed=seed)
    schedule = LoopConfig(steps=steps, lr=lr, weight_decay=0.05)
    info = {
        "config": asdict(config) | {"patch_nums": list(config.patch_nums)},
        "prefix": prefix,
        "prior": prior,
        "objective": asdict(objective),
        "seed": seed,
        **(origin or {}),
    }
    groups = decay_groups(model, schedule.weight_decay)
    loss = TransformerLoss(model, cache, objective, bf16)
    trainer = Trainer(model, loss, schedule, out, [], info, {"cache": cache}, groups)
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer
