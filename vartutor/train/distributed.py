"""The trainer on several processes: DDP or FSDP, rounds of accumulation, states in shards, a stop at a given time."""

import csv
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from vartutor.data.images import write_image
from vartutor.data.order import mix
from vartutor.errors import UserError
from vartutor.tokenizer.multiscale import Phi
from vartutor.train.checkpoint import save_state
from vartutor.train.config import RunConfig
from vartutor.train.loop import Interrupt, Trainer
from vartutor.train.processes import Process
from vartutor.train.sharded import Averages, full, load_sharded, save_sharded
from vartutor.train.sources import Source
from vartutor.transformer.model import Block


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


class DistributedTrainer(Trainer):
    """:class:`Trainer` for one process or many; with one, and one round, its numbers are the plain trainer's.

    Args:
        model: on the process's device; where FSDP is used it is sharded in place.
        step_loss: as for :class:`Trainer`; draws its batch from ``source``.
        run: settings.
        source: told before every round which batch comes next.
        process: which one this is.
        seed: of what the losses draw.
        groups: called with the model, sharded or not, for parameters with weight decays of their own.
        sample: called for an image (3, H, W) to look at.
    """

    def __init__(
        self,
        model: nn.Module,
        step_loss: Callable[[int], tuple[Tensor, dict[str, float]]],
        run: RunConfig,
        out: Path,
        source: Source,
        process: Process,
        *,
        seed: int = 0,
        info: dict | None = None,
        parts: dict | None = None,
        groups: Callable[[nn.Module], list[dict]] | None = None,
        sample: Callable[[], Tensor] | None = None,
    ):
        self.run, self.source, self.process, self.seed, self.sample = run, source, process, seed, sample
        self.outer, self.talks = InForward(model), process.rank == 0
        several = process.size > 1
        if several and run.strategy == "fsdp":
            shard(self.outer)
        super().__init__(model, step_loss, run.loop, out, [], info, parts, groups(model) if groups else None)
        self.folder, self.started, self.timed_out = out, time.monotonic(), False
        self.ddp = several and run.strategy == "ddp"
        if self.ddp:
            self.outer = DistributedDataParallel(self.outer, find_unused_parameters=_some_are_idle(model))
        self.writer = _tensorboard(out) if run.tensorboard and process.rank == 0 else None

    def _make_optimizer(self, groups: list, **options) -> torch.optim.Optimizer:
        return super()._make_optimizer(groups, fused=self.process.device.type == "cuda", **options)

    def _copy_weights(self) -> Averages:
        return Averages(self.model)

    def save(self) -> None:
        """Write the state in shards, and the log."""
        extra = {"step": self.step, "seconds": self.seconds, "info": self.info, "parts": self._parts()}
        save_sharded(self.folder, self.step, self.model, self.optimizer, self.averaged, extra, self.process)
        if self.process.rank == 0:
            self.write_log()

    def resume(self) -> None:
        """Go back to the newest saved state, whatever the number of processes that wrote it.

        Raises:
            UserError: no state, an unreadable one, or one of another model.
        """
        state = load_sharded(self.folder, self.model, self.optimizer, self.averaged)
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.step, self.seconds = state["step"], state["seconds"]
        if self.log_path.is_file():
            with open(self.log_path, encoding="utf-8", newline="") as file:
                rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
            self.rows = [{**row, "step": int(row["step"])} for row in rows if row["step"] <= self.step]

    def fit(self) -> None:
        """Train to the last step, or until the time is over; then write ``state.pt`` with the averaged weights.

        Raises:
            UserError: the loss is no longer a number; the last saved state is kept.
            KeyboardInterrupt: Ctrl-C or a request to terminate; the step in hand is finished and saved first.
        """
        # torchrun, and a queue that wants its machine back, ask with SIGTERM.
        before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            super().fit()
        except KeyboardInterrupt:
            if not self.timed_out:
                raise
        finally:
            signal.signal(signal.SIGTERM, before)
            if self.writer is not None:
                self.writer.close()
        self.publishable()

    def publishable(self) -> None:
        """Write ``state.pt`` with the whole averaged weights, as ``vartutor publish`` and ``evaluate`` read it."""
        state = {"info": self.info, "step": self.step, "seconds": self.seconds, "rows": self.rows}
        state |= {"averaged": full(self.averaged.state_dict()), "parts": self._parts()}
        if self.process.rank == 0:
            save_state(self.state_path, state)
        self.process.wait()

    def _must_stop(self, interrupt: Interrupt) -> bool:
        hours = (time.monotonic() - self.started) / 3600
        late = 0 < self.run.max_hours <= hours
        stop = self.process.any(interrupt.asked or late)
        self.timed_out = stop and not self.process.any(interrupt.asked)
        return stop

    def _note(self, row: dict[str, float]) -> None:
        super()._note(row)
        if self.writer is not None:
            for name, value in row.items():
                self.writer.add_scalar(name, value, row["step"])

    def _step(self) -> dict[str, float]:
        numbers = super()._step()
        if self.sample is not None and self.run.images_every and self.step % self.run.images_every == 0:
            self._show()
        return numbers

    @torch.no_grad()
    def _show(self) -> None:
        self.model.eval()
        image = self.outer(self.sample)
        self.model.train()
        if self.process.rank == 0:
            folder = self.folder / "samples"
            folder.mkdir(exist_ok=True)
            write_image(folder / f"step-{self.step:08d}.png", image)
            if self.writer is not None:
                self.writer.add_image("sample", (image.clamp(-1, 1) + 1) / 2, self.step)

    def _gradients(self) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        rounds, total = self.run.accumulate, []
        for k in range(rounds):
            number = self.step * rounds + k
            self.source.seek(number)
            torch.manual_seed(mix(self.seed, number, 2 + self.process.rank))
            with self._exchange(last=k == rounds - 1):
                loss, numbers = self.outer(self.step_loss, self.step)
                (loss / rounds).backward()
            total.append({"loss": loss.item(), **numbers})
        means = [sum(row[name] for row in total) / rounds for name in total[0]]
        found = dict(zip(total[0], self.process.mean(means), strict=True))
        self._check(torch.tensor(found["loss"]))
        return found

    def _exchange(self, last: bool):
        """Gradients are added up in every process, and exchanged once, after the last round."""
        if self.ddp and not last:
            return self.outer.no_sync()
        if not self.ddp and self.process.size > 1:
            self.outer.set_requires_gradient_sync(last)
        return nullcontext()


def _some_are_idle(model: nn.Module) -> bool:
    """Whether weights get no gradient, for which DDP would wait: φ of a ladder so short that no scale takes it."""
    return any(len(set(phi.choice)) < len(phi.convs) for phi in model.modules() if isinstance(phi, Phi))


def _tensorboard(out: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("tensorboard=true needs the package: pip install -e '.[gpu]'") from None
    return SummaryWriter(out / "tensorboard")
