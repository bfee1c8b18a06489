"""Fine-tune a trained transformer so that it prefers the clean photo's tokens to the degraded photo's.

L = CE + λ L_DPO, as in arXiv 2506.04990, where CE stands for whatever objective the transformer was trained with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.pairs import Pairs
from vartutor.errors import UserError
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.loop import NOW, Moment, Numbers
from vartutor.train.transformer import Features, Objective, TransformerLoss
from vartutor.transformer.photo import PhotoTransformer, force, pair_features


@dataclass(frozen=True)
class SequenceLogp:
    """Log-likelihood of token sequences: ``total`` (B,), ``mean`` (B,) per token, ``scales`` (B, K) means per scale."""

    total: Tensor
    mean: Tensor
    scales: Tensor


def sequence_logp(logits: Tensor, tokens: Tensor, squares: Sequence[int]) -> SequenceLogp:
    """log π of sequences under teacher forcing.

    Args:
        logits: (B, L, V).
        tokens: (B, L) int64.
        squares: tokens of every scale, with sum L.
    """
    logp = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    scales = torch.stack([part.mean(1) for part in logp.split(list(squares), dim=1)], 1)
    return SequenceLogp(logp.sum(1), logp.mean(1), scales)


def margin(
    logp_hr: Tensor, logp_lr: Tensor, ref_logp_hr: Tensor | None = None, ref_logp_lr: Tensor | None = None
) -> Tensor:
    """log π(z_HR) - log π(z_LR), minus the same of the reference, if any: (B,)."""
    found = logp_hr - logp_lr
    if ref_logp_hr is not None and ref_logp_lr is not None:
        found = found - (ref_logp_hr - ref_logp_lr)
    return found


def dpo_loss(
    logp_hr: Tensor,
    logp_lr: Tensor,
    beta: float,
    ref_logp_hr: Tensor | None = None,
    ref_logp_lr: Tensor | None = None,
) -> Tensor:
    """-log σ(β margin), (B,); log 2 where nothing is preferred.

    Args:
        logp_hr, logp_lr: (B,) log-likelihoods of the preferred and of the other tokens, sums or means.
        beta: sharpness; with sums over hundreds of tokens, σ saturates unless it is small.
        ref_logp_hr, ref_logp_lr: of a frozen reference, or None for none.
    """
    return -F.logsigmoid(beta * margin(logp_hr, logp_lr, ref_logp_hr, ref_logp_lr))


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
    """

    def __init__(
        self,
        model: PhotoTransformer,
        start: PhotoTransformer,
        tokenizer: HierarchicalTokenizer,
        objective: Objective,
        preference: Preference = Preference(),
        bf16: bool = False,
    ):
        super().__init__(model, tokenizer, objective, bf16)
        self.start, self.preference = start, preference

    reads_degraded = True  # they are the other side

    def __call__(self, seen: Features, moment: Moment = NOW) -> tuple[Tensor, Numbers]:
        """Loss of a batch, a scalar; ``dpo``, and the means of :meth:`Sides.numbers`; where it is logged, ``drift``."""
        w = self.preference
        forced = [self._forced(seen, features) for features in (seen.clean, seen.degraded)]
        if self.slip:
            forced.append(self._forced(seen, seen.clean, self.slip))
        asked, labels, theirs = 2 if self.slip else 0, self._labels(seen), None
        with torch.autocast(seen.photo.device.type, torch.bfloat16, enabled=self.bf16):
            ours = show_sides(self.model, seen.photo, seen.degraded, forced, labels)
            if w.reference or moment.logged:  # another forward pass
                with torch.no_grad():
                    theirs = show_sides(self.start, seen.photo, seen.degraded, forced[:2], labels)
        loss, _ = self._weigh(ours.logits[asked], *forced[asked][:2])
        dpo = w.loss(ours, theirs).mean()
        if w.lam:
            loss = loss + w.lam * dpo
        numbers = {"dpo": dpo.detach(), **{name: value.mean().detach() for name, value in ours.numbers().items()}}
        if moment.logged:
            numbers["drift"] = drift(theirs, ours).mean()
        return loss, numbers


@torch.no_grad()
def judge_preference(
    model: PhotoTransformer, start: PhotoTransformer, tokenizer: HierarchicalTokenizer, pairs: Pairs, batch: int = 16
) -> dict[str, Tensor]:
    """What a transformer thinks of pairs that it was not trained on: :meth:`Sides.numbers` and ``drift``, (N,) each."""
    parts = []
    for photo, hr in zip(pairs.lr.split(batch), pairs.hr[max(pairs.hr)].split(batch), strict=True):
        clean, degraded = pair_features(tokenizer, photo, hr, model.first)
        seen = [force(tokenizer, features, degraded) for features in (clean, degraded)]
        before, now = (show_sides(each, photo, degraded, seen, None) for each in (start, model))
        parts.append(now.numbers() | {"drift": drift(before, now)})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
