"""What a transformer is told before it begins: a class, or a degraded photo."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """``vector`` (B, D) modulates every block; ``prefix`` (B, P, D) stands before the first map.

    ``sizes`` are the (height, width) of the maps that the prefix consists of, for rotary positions.
    """

    vector: Tensor
    prefix: Tensor | None = None
    sizes: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.vector)

    def joined(self, other: "Condition") -> "Condition":
        """Both batches as one, self first."""
        prefix = None if self.prefix is None else torch.cat([self.prefix, other.prefix])
        return Condition(torch.cat([self.vector, other.vector]), prefix, self.sizes)


def class_condition(model, labels: Tensor) -> Condition:
    """Official VAR's: (B,) int64 class numbers; a negative one stands for the null class, the last of the table."""
    labels = torch.where(labels < 0, model.config.classes - 1, labels)
    return Condition(model.class_emb(labels))


def drop_labels(labels: Tensor, classes: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Replace a share of the labels by the null class, ``classes - 1``, so that guidance has something to push from."""
    drop = torch.rand(labels.shape, generator=generator, device=labels.device) < share
    return torch.where(drop, classes - 1, labels)
