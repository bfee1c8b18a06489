"""What the transformer that restores photos learns by, over a frozen tokenizer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vartutor.errors import UserError
from vartutor.profiles import Recipe
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.loop import NOW, Moment, Numbers
from vartutor.transformer.photo import PhotoTransformer, force, photo_features

if TYPE_CHECKING:
    from vartutor.train.source import Batch

BARE = ("pos", "pos_start", "level.weight", "offset", "log_scale", "log_alpha")  # no weight decay, as in VAR
DRAWS = 110  # their stream; those below 100 are the data's


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


@dataclass(frozen=True)
class Features:
    """What a transformer learns from: degraded photos (B, 3, h, w), and latents (B, C, h_s, w_s) by scale group.

    ``draws`` (B, 2 + 2 L) in 0..1 decide which photos are not shown, and which tokens slip.
    """

    photo: Tensor
    clean: tuple[Tensor, ...]
    degraded: tuple[Tensor, ...]
    draws: Tensor


class TransformerLoss:
    """Predicts the tokens of a batch from the true ones before them, and weighs the errors."""

    def __init__(
        self,
        model: PhotoTransformer,
        tokenizer: HierarchicalTokenizer,
        objective: Objective = Objective(),
        bf16: bool = False,
    ):
        self.model, self.tokenizer, self.objective, self.bf16 = model, tokenizer, objective, bf16
        squares = torch.tensor([p * p for p in model.config.patch_nums])
        shares = squares**-objective.balance
        shares = (shares / (shares * squares).sum()).repeat_interleave(squares)  # (L,), 1 in all
        self.shares = shares.to(tokenizer.quantizer.codes.device)

    @torch.no_grad()
    def features(self, photo: Tensor, clean: Tensor, draws: Tensor | None = None) -> Features:
        """Of degraded photos (B, 3, h, w) and the clean ones (B, 3, H, W); draws of torch's generator if left out."""
        latents = tuple(self.tokenizer.encode(clean))
        degraded = photo_features(self.tokenizer, photo, self.model.first) if self.reads_degraded else latents
        if draws is None:
            draws = torch.rand(len(photo), 2 + 2 * self.model.config.tokens, device=photo.device)
        return Features(photo, latents, degraded, draws)

    def prepare(self, batch: "Batch") -> Features:
        """The same of a batch, whose draws are its photos' own."""
        return self.features(batch.lr, batch.x, batch.uniform(2 + 2 * self.model.config.tokens, DRAWS))

    @property
    def reads_degraded(self) -> bool:
        """Whether anything looks at the degraded photos' latents."""
        return self.model.reads_latents or self.objective.slip > 0

    def __call__(self, seen: Features, moment: Moment = NOW) -> tuple[Tensor, Numbers]:
        """Loss of a batch, a scalar; its cross entropy; where it is logged, the share of right tokens per scale."""
        targets, goals, inputs, rests = self._forced(seen, seen.clean, self.slip)
        with torch.autocast(seen.photo.device.type, torch.bfloat16, enabled=self.bf16):
            condition = self.model.condition(seen.photo, seen.degraded, self._labels(seen))
            logits = self.model.body(condition, inputs, rests)
        loss, entropy = self._weigh(logits, targets, goals)
        numbers = {"ce": entropy.detach()}
        if moment.logged:
            squares = [p * p for p in self.model.config.patch_nums]
            right = (logits.argmax(-1) == targets).float().split(squares, 1)
            numbers |= {f"right/{k}": part.mean() for k, part in enumerate(right)}
        return loss, numbers

    @property
    def slip(self) -> float:
        """Only what learns sees wrong tokens."""
        return self.objective.slip * self.model.training

    def _forced(self, seen: Features, features: tuple[Tensor, ...], slip: float = 0.0) -> tuple[Tensor, ...]:
        return force(self.tokenizer, features, seen.degraded, slip, seen.draws[:, 1:])

    def _labels(self, seen: Features) -> Tensor | None:
        """(B,) the null class where a photo is dropped; None where none ever is."""
        if not self.objective.drop or not self.model.training:
            return None
        dropped = seen.draws[:, 0] < self.objective.drop
        return dropped.long() * (self.model.config.classes - 1)

    def _weigh(self, logits: Tensor, targets: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
        w, codes = self.objective, self.tokenizer.quantizer.codes
        logp = logits.log_softmax(-1)  # (B, L, V)
        entropy = -logp.gather(-1, targets[..., None])[..., 0]  # (B, L)
        loss = w.hard * entropy
        if w.soft:
            far = torch.cdist(goals, codes).square()
            near = (-far / (w.tau * far.amin(-1, keepdim=True).clamp(min=1e-6))).softmax(-1)
            loss = loss - w.soft * (near * logp).sum(-1)
        if w.expected:
            loss = loss + w.expected * (logp.exp() @ codes - goals).square().mean(-1)
        return (loss @ self.shares).mean(), entropy.mean()


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """VAR's rule: matrices and the class table decay; vectors, biases and tables of positions do not."""
    decayed, bare = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        stay = parameter.ndim <= 1 or name.endswith("bias") or name.endswith(BARE)
        (bare if stay else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": bare, "weight_decay": 0.0}]


def calibrate(model: PhotoTransformer, tokenizer: HierarchicalTokenizer, seen: Features) -> None:
    """Give the prior a fair start, on photos that are not among the first of the training."""
    targets, _, _, rests = force(tokenizer, seen.clean, seen.degraded)
    squares = [p * p for p in model.config.patch_nums]
    model.body.prior.calibrate(rests.split(squares, 1), targets.split(squares, 1))
