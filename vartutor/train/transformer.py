"""Train the transformer that restores photos, over a frozen tokenizer."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.errors import UserError
from vartutor.profiles import Profile, Recipe
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.cache import BatchCache
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.transformer.condition import drop_labels
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, force, pair_features

BARE = ("pos", "pos_start", "level.weight", "offset", "log_scale", "log_alpha")  # no weight decay, as in VAR


@dataclass(frozen=True)
class Objective:
    """What the transformer is asked for, and what it sees meanwhile."""

    hard: float = 1.0  # weight of the cross entropy with the nearest codes, the paper's loss
    soft: float = 0.0  # of the cross entropy with softmax(-‖g - e‖² / (tau d²)), d the nearest code's distance from g
    tau: float = 0.2  # near codes are nearly right: so much farther, as a share of d², costs a factor e
    expected: float = 0.0  # of the squared error of the expected code
    balance: float = 0.0  # 0: every token counts alike; 1: every map does, the single token and the finest map
    slip: float = 0.0  # largest share of tokens replaced in the input; see `force`
    drop: float = 0.0  # share of the photos that are not shown, so that generation can be guided

    @classmethod
    def of(cls, recipe: Recipe) -> "Objective":
        """A profile's."""
        return cls(recipe.hard, recipe.soft, recipe.tau, recipe.expected, recipe.balance, recipe.slip)

    def __post_init__(self):
        if min(self.hard, self.soft, self.expected) < 0 or self.hard + self.soft + self.expected == 0:
            raise UserError("the weights hard, soft and expected: give numbers from 0 on, not all of them 0")
        if self.tau <= 0:
            raise UserError(f"tau {self.tau:g}: give a number above 0")
        for name, share in (("balance", self.balance), ("slip", self.slip), ("drop", self.drop)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} {share:g}: give a share from 0 to 1")


class FeatureCache(BatchCache):
    """Pairs of photos whose latents are computed once and used for several epochs.

    A batch: degraded photos (B, 3, h, w), and the features of the clean and of the degraded ones by scale group. The
    tokens themselves are not cached: with slips they differ each time.

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
        self.tokenizer, self.crops, self.preset = tokenizer, crops, preset
        sources = {"crops": crops.generator, "own": Generator().manual_seed(seed)}
        super().__init__(self._draw, sources, batches, epochs)

    def _draw(self) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        pairs = make_pairs(self.crops.batch(), self.preset, self.generators["own"])
        return pairs.lr, *pair_features(self.tokenizer, pairs.lr, pairs.hr[max(pairs.hr)])


class TransformerLoss:
    """Draws a batch, predicts its tokens, and weighs the errors; called by :class:`Trainer` once per step."""

    def __init__(self, model: PhotoTransformer, cache: FeatureCache, objective: Objective, bf16: bool = False):
        self.model, self.cache, self.objective, self.bf16 = model, cache, objective, bf16
        squares = torch.tensor([p * p for p in model.config.patch_nums])
        shares = squares**-objective.balance
        self.shares = (shares / (shares * squares).sum()).repeat_interleave(squares)  # of every token, 1 in all

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch; its cross entropy, and per scale the share of right tokens."""
        tokenizer = self.cache.tokenizer
        photo, clean, degraded = self.cache.batch()
        targets, goals, inputs, rests = force(tokenizer, clean, degraded, self.objective.slip)
        labels = self._labels(photo)
        with torch.autocast(photo.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model.body(self.model.condition(photo, degraded, labels), inputs, rests)
        loss, entropy = self._weigh(logits, targets, goals, tokenizer.quantizer.codes)
        squares = [p * p for p in self.model.config.patch_nums]
        right = (logits.argmax(-1) == targets).float().split(squares, 1)
        return loss, {"ce": entropy.item(), **{f"right/{k}": part.mean().item() for k, part in enumerate(right)}}

    def _labels(self, photo: Tensor) -> Tensor | None:
        """The null class where a photo is dropped; None where none ever is."""
        if not self.objective.drop:
            return None
        labels = torch.zeros(len(photo), dtype=torch.long, device=photo.device)
        return drop_labels(labels, self.model.config.classes, self.objective.drop)

    def _weigh(self, logits: Tensor, targets: Tensor, goals: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        w, shares = self.objective, self.shares.to(logits.device)
        logp = logits.log_softmax(-1)
        entropy = -logp.gather(-1, targets[..., None])[..., 0]
        loss = w.hard * entropy
        if w.soft:
            far = torch.cdist(goals, codes).square()
            near = (-far / (w.tau * far.amin(-1, keepdim=True).clamp(min=1e-6))).softmax(-1)
            loss = loss - w.soft * (near * logp).sum(-1)
        if w.expected:
            loss = loss + w.expected * (logp.exp() @ codes - goals).square().mean(-1)
        return (loss @ shares).mean(), entropy.mean()


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
    config: TransformerConfig | None = None,
    prefix: bool = True,
    prior: bool | None = None,
    added: bool = False,
    objective: Objective | None = None,
    preset: Degradation = COURSE,
    lr: float | None = None,
    seed: int = 0,
    steps: int | None = None,
    bf16: bool = False,
    resume: bool = False,
    origin: dict | None = None,
    start: Callable[[PhotoTransformer], None] = lambda model: None,
) -> Trainer:
    """Train on pairs made from the training photos; writes ``state.pt`` and ``log.csv`` to ``out``.

    The state holds the tokenizer too, so a run needs nothing beside it.

    Args:
        tokenizer: from :func:`vartutor.tokenizer.build.build_tokenizer`, frozen.
        config, prior, objective, lr, steps: instead of the profile's.
        prefix, prior, added: see :class:`PhotoTransformer`.
        resume: go on from the state in ``out``, with its tokenizer and the same numbers as if never stopped.
        origin: kept with the state, such as the command and the commit.
        start: called with the untrained model of a new run, to give it weights.

    Raises:
        UserError: photos are to be dropped, but there is no prefix that shows them, or no class for those; a state
            that is missing, unreadable or of another model.
    """
    torch.manual_seed(seed)
    recipe = profile.transformer
    objective = objective or Objective.of(recipe)
    model = make_transformer(profile, tokenizer, objective, config=config, prefix=prefix, prior=prior, added=added)
    if not resume:
        start(model)
        _calibrate(model, tokenizer, profile, preset, seed)
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.transformer.batch, seed=seed)
    cache = FeatureCache(tokenizer, crops, preset, seed=seed)
    schedule = LoopConfig(steps=steps or recipe.steps, lr=lr or recipe.lr, weight_decay=0.05)
    info = {
        **describe("transformer", model, tokenizer, objective),
        "seed": seed,
        "steps": schedule.steps,
        "lr": schedule.lr,
        **(origin or {}),
    }
    groups = decay_groups(model, schedule.weight_decay)
    loss = TransformerLoss(model, cache, objective, bf16)
    parts = {"tokenizer": tokenizer, "cache": cache}  # in this order: a cache is filled by its tokenizer
    trainer = Trainer(model, loss, schedule, out, [], info, parts, groups)
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer


def _calibrate(
    model: PhotoTransformer, tokenizer: HierarchicalTokenizer, profile: Profile, preset: Degradation, seed: int
) -> None:
    if model.body.prior is None:
        return
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.transformer.batch, seed=10_000 + seed)
    calibrate(model, tokenizer, FeatureCache(tokenizer, crops, preset, seed=10_000 + seed).batch())


def calibrate(model: PhotoTransformer, tokenizer: HierarchicalTokenizer, batch: tuple) -> None:
    """Give the prior a fair start, on a batch of :class:`FeatureCache` that is not among the first of the training."""
    _, clean, degraded = batch
    targets, _, _, rests = force(tokenizer, clean, degraded)
    squares = [p * p for p in model.config.patch_nums]
    model.body.prior.calibrate(rests.split(squares, 1), targets.split(squares, 1))


def make_transformer(
    profile: Profile,
    tokenizer: HierarchicalTokenizer,
    objective: Objective,
    *,
    config: TransformerConfig | None = None,
    prefix: bool = True,
    prior: bool | None = None,
    added: bool = False,
) -> PhotoTransformer:
    """An untrained transformer; what is left out is the profile's.

    Raises:
        UserError: photos are to be dropped, but there is no prefix that shows them, or no class for those.
    """
    recipe = profile.transformer
    config = config or make_config(profile, tokenizer, classes=2 if objective.drop else 1)
    if objective.drop and (not prefix or config.classes < 2):
        raise UserError("photos can be dropped where a prefix shows them, and a second class says that it does not")
    prior = recipe.prior if prior is None else prior
    options = {"prefix": prefix, "prior": prior, "patch": recipe.patch, "added": added}
    return PhotoTransformer(config, tokenizer.quantizer.codes, **options)


def describe(kind: str, model: PhotoTransformer, tokenizer: HierarchicalTokenizer, objective: Objective) -> dict:
    """What a training state says of its transformer, so that it can be built again."""
    names = {"kind": kind, "tokenizer": tokenizer.config.to_json(), **model.settings}
    return names | {"objective": asdict(objective)}


def make_config(profile: Profile, tokenizer: HierarchicalTokenizer, classes: int = 1) -> TransformerConfig:
    """The profile's sizes, for the token maps and codes of a tokenizer."""
    recipe, quantizer = profile.transformer, tokenizer.quantizer
    codes, channels = quantizer.codes.shape
    sizes = recipe.width, recipe.depth, recipe.heads
    options = {"classes": classes, "rope": recipe.rope, "checkpointing": recipe.checkpointing}
    return TransformerConfig(quantizer.patch_nums, codes, channels, *sizes, **options)
