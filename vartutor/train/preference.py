"""Fine-tune a trained transformer so that it prefers the clean photo's tokens to the degraded photo's.

L = CE + λ L_DPO, as in arXiv 2506.04990, where CE stands for whatever objective the transformer was trained with.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation
from vartutor.data.pairs import Pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.errors import UserError
from vartutor.preference import SequenceLogp, dpo_loss, sequence_logp
from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.checkpoint import checksum
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.train.transformer import FeatureCache, Objective, TransformerLoss, decay_groups, describe
from vartutor.transformer.photo import PhotoTransformer, force, pair_features

Forced = tuple[Tensor, Tensor, Tensor, Tensor]  # targets, goals, inputs, rests


@dataclass(frozen=True)
class Preference:
    """λ times -log σ(β margin), beside the transformer's own objective."""

    beta: float = 0.2  # the paper's
    lam: float = 1.0  # 0: the control, with the same steps and the same batches
    total: bool = False  # log-likelihoods as sums over the tokens instead of means
    reference: bool = False  # margins less those of the frozen start; False: as in the paper

    def __post_init__(self):
        if self.beta <= 0:
            raise UserError(f"beta {self.beta:g}: give a number above 0")
        if self.lam < 0:
            raise UserError(f"lambda {self.lam:g}: give a number from 0 on")

    def loss(self, ours: "Sides", start: "Sides | None") -> Tensor:
        """-log σ(β margin), (B,); ``start`` is looked at where it is the reference."""
        judged = [ours, start] if self.reference else [ours]
        logps = [side.total if self.total else side.mean for sides in judged for side in (sides.hr, sides.lr)]
        return dpo_loss(*logps[:2], self.beta, *logps[2:])


@dataclass(frozen=True)
class Sides:
    """What a transformer thinks of a batch's clean tokens, ``hr``, and of its degraded ones, ``lr``.

    ``logits`` (B, L, V) are of every sequence that it was shown, HR first and LR second.
    """

    hr: SequenceLogp
    lr: SequenceLogp
    logits: list[Tensor]

    def numbers(self) -> dict[str, Tensor]:
        """(B,) each: cross entropy of the HR tokens, whether they are the likelier ones, margins in nats."""
        scales = (self.hr.scales - self.lr.scales).unbind(1)
        return {
            "ce": -self.hr.mean,
            "accuracy": (self.hr.total > self.lr.total).float(),
            "margin": self.hr.mean - self.lr.mean,
            "margin sum": self.hr.total - self.lr.total,
            **{f"margin/{k}": margin for k, margin in enumerate(scales)},
        }


def show_sides(
    model: PhotoTransformer, photo: Tensor, degraded: tuple[Tensor, ...], seen: list[Forced], labels: Tensor | None
) -> Sides:
    """Teacher forcing of several sequences for the same photos (B, 3, h, w).

    The prefix is computed once, for all sequences as branches behind it; that is exact.

    Args:
        degraded: features of the photos.
        seen: what :func:`force` gives, HR first and LR second.
        labels: as for :meth:`PhotoTransformer.condition`.
    """
    condition, sequences = model.condition(photo, degraded, labels), [(x, rests) for _, _, x, rests in seen]
    logits = model.body.branches(condition, sequences)
    squares = [p * p for p in model.config.patch_nums]
    hr, lr = (sequence_logp(logits[i], seen[i][0], squares) for i in (0, 1))
    return Sides(hr, lr, logits)


def drift(start: Sides, now: Sides) -> Tensor:
    """KL(start ‖ now) of the HR tokens, a mean over them in nats: (B,)."""
    before, after = (sides.logits[0].detach().log_softmax(-1) for sides in (start, now))
    return (before.exp() * (before - after)).sum(-1).mean(1)


class PreferenceLoss(TransformerLoss):
    """The transformer's own loss and the preference's, on one batch.

    The preferred tokens are the clean photo's, the others the degraded photo's, each under their own teacher-forced
    inputs. If the objective has slips, they get a sequence of their own: a preference is between true ones.

    Args:
        start: the frozen transformer that ``model`` started as.
        due: whether to measure the drift at a step, for that takes another forward pass.
    """

    def __init__(
        self,
        model: PhotoTransformer,
        start: PhotoTransformer,
        cache: FeatureCache,
        objective: Objective,
        preference: Preference,
        bf16: bool = False,
        due: Callable[[int], bool] = lambda step: True,
    ):
        super().__init__(model, cache, objective, bf16)
        self.start, self.preference, self.due = start, preference, due

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch; ``dpo``, ``drift`` (nan where it is not due), and the means of :meth:`Sides.numbers`."""
        w, tokenizer, due = self.preference, self.cache.tokenizer, self.due(step)
        photo, clean, degraded = self.cache.batch()
        seen = [force(tokenizer, features, degraded) for features in (clean, degraded)]
        if self.objective.slip:
            seen.append(force(tokenizer, clean, degraded, self.objective.slip))
        asked = 2 if self.objective.slip else 0
        labels, theirs = self._labels(photo), None
        with torch.autocast(photo.device.type, torch.bfloat16, enabled=self.bf16):
            ours = show_sides(self.model, photo, degraded, seen, labels)
            if w.reference or due:
                with torch.no_grad():
                    theirs = show_sides(self.start, photo, degraded, seen[:2], labels)
        loss, _ = self._weigh(ours.logits[asked], *seen[asked][:2], tokenizer.quantizer.codes)
        dpo = w.loss(ours, theirs).mean()
        if w.lam:
            loss = loss + w.lam * dpo
        moved = drift(theirs, ours).mean().item() if due else float("nan")
        return loss, {
            "dpo": dpo.item(),
            "drift": moved,
            **{name: value.mean().item() for name, value in ours.numbers().items()},
        }


@torch.no_grad()
def judge_preference(
    model: PhotoTransformer, start: PhotoTransformer, tokenizer: HierarchicalTokenizer, pairs: Pairs, batch: int = 16
) -> dict[str, Tensor]:
    """What a transformer thinks of pairs that it was not trained on: :meth:`Sides.numbers` and ``drift``, (N,) each."""
    parts = []
    for photo, hr in zip(pairs.lr.split(batch), pairs.hr[max(pairs.hr)].split(batch), strict=True):
        clean, degraded = pair_features(tokenizer, photo, hr)
        seen = [force(tokenizer, features, degraded) for features in (clean, degraded)]
        before, now = (show_sides(each, photo, degraded, seen, None) for each in (start, model))
        parts.append(now.numbers() | {"drift": drift(before, now)})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def train_preference(
    profile: Profile,
    start: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    out: Path,
    *,
    objective: Objective,
    preference: Preference = Preference(),
    preset: Degradation = COURSE,
    source: str = "",
    lr: float | None = None,
    seed: int = 0,
    steps: int | None = None,
    bf16: bool = False,
    resume: bool = False,
    origin: dict | None = None,
) -> Trainer:
    """Train a copy of ``start`` on pairs made from the training photos; writes ``state.pt`` and ``log.csv`` to ``out``.

    The state holds tokenizer and start too, so a run needs nothing beside it, and restores photos as it is.

    Args:
        start, tokenizer: as :func:`vartutor.train.runs.find_start` gives them; frozen.
        objective: that ``start`` was trained with.
        source: where ``start`` is from, for the record; its checksum is that of the published file.
        lr, steps: instead of the profile's.
        resume: go on from the state in ``out``, with its models and the same numbers as if never stopped.
        origin: kept with the state, such as the command and the commit.

    Raises:
        UserError: a state that is missing, unreadable or of another model.
    """
    torch.manual_seed(seed)
    recipe = profile.transformer
    model = copy.deepcopy(start).requires_grad_(True)
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.transformer.batch, seed=seed)
    cache = FeatureCache(tokenizer, crops, preset, seed=seed)
    schedule = LoopConfig(
        steps=steps or recipe.preference_steps, lr=lr or recipe.preference_lr, weight_decay=0.05, log_every=10
    )
    info = {
        **describe("preference", model, tokenizer, objective),
        "preference": asdict(preference),
        "start": {"model": source, "sha256": checksum(start)},
        "seed": seed,
        "steps": schedule.steps,
        "lr": schedule.lr,
        **(origin or {}),
    }
    groups = decay_groups(model, schedule.weight_decay)
    loss = PreferenceLoss(model, start, cache, objective, preference, bf16, due=schedule.is_logged)
    parts = {"tokenizer": tokenizer, "start": start, "cache": cache}  # in this order: the first fills the last
    trainer = Trainer(model, loss, schedule, out, [], info, parts, groups)
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer
