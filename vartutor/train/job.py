"""What the trainer needs to know of what it trains; and how a model is spread over processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from vartutor.errors import UserError
from vartutor.tokenizer.multiscale import Phi
from vartutor.train.loop import Moment, Numbers
from vartutor.train.source import Batch
from vartutor.transformer.model import Block


@dataclass
class Job:
    """What is trained, by which loss.

    Args:
        model: on the process's device, trained in place.
        loss: of what ``prepare`` made of a batch, at a moment; a scalar, and numbers to log. It draws nothing but from
            the seeds of the photos, and in evaluation mode nothing at all.
        info: plain values that say what it is; kept with the state.
        prepare: what frozen models make of a batch; see :class:`vartutor.train.source.Feed`, as for ``keep``.
        parts: whatever else learns or stands frozen, by name; kept with the state through ``state_dict``.
        groups: parameters with weight decays of their own; all alike if left out.
        finish: called once per step, after the last round, for what learns beside the optimiser.
        restore: images {s: (b, 3, H_s, W_s)} that the model makes of a batch, to be looked at and measured.
        compiles: modules by the name of the part that they are.
        notes: lines to print before it begins.
    """

    model: nn.Module
    loss: Callable[[Any, Moment], tuple[Tensor, Numbers]]
    info: dict
    prepare: Callable[[Batch], Any] = lambda batch: batch
    keep: tuple[int, int] = (1, 1)
    parts: dict[str, Any] = field(default_factory=dict)
    groups: Callable[[nn.Module], list[dict]] | None = None
    finish: Callable[[Moment], None] = lambda moment: None
    restore: Callable[[Batch], dict[int, Tensor]] | None = None
    compiles: dict[str, list[nn.Module]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class InForward(nn.Module):
    """Runs any call as the forward pass of a module that holds the model.

    DDP and FSDP do their work around a forward pass; the losses, however, call a model's parts one by one.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)


def shard(outer: InForward) -> None:
    """Give every process a share of the weights (FSDP2): block by block in a transformer, else all in one.

    Weights without gradient, such as a codebook that follows averages, stay whole in every process.

    Raises:
        UserError: blocks that read a weight outside their forward pass.
    """
    outer.to(memory_format=torch.contiguous_format)  # FSDP takes no other
    whole = {p for p in outer.parameters() if not p.requires_grad}
    for block in [m for m in outer.modules() if isinstance(m, Block)]:
        if not hasattr(block, "modulation"):
            raise UserError("fsdp cannot shard blocks with shared modulation: take strategy ddp")
        fully_shard(block.modulation)  # it runs before the block does
        fully_shard(block)
    fully_shard(outer, ignored_params=whole)


def some_are_idle(model: nn.Module) -> bool:
    """Whether weights get no gradient, for which DDP would wait: φ of a ladder so short that no scale takes it."""
    return any(len(set(phi.choice)) < len(phi.convs) for phi in model.modules() if isinstance(phi, Phi))
