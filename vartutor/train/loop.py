"""The training loop: warm-up and cosine, clipping, averaged weights, and a state that resumes bit for bit."""

import copy
import csv
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from vartutor.errors import UserError, first_line
from vartutor.paths import make_folder
from vartutor.train.checkpoint import load_state, save_state


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train."""

    steps: int
    lr: float = 1e-3
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.01
    clip: float = 1.0  # gradient norm
    ema: float = 0.999  # decay of the averaged weights
    save_every: int = 500
    log_every: int = 50

    def is_logged(self, step: int) -> bool:
        """Whether what is measured at this step, counted from 0, goes into the log."""
        return (step + 1) % self.log_every == 0 or step + 1 == self.steps


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, then half a cosine down to a hundredth; a function of the step alone."""
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.steps - warmup)
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class Interrupt:
    """While active, Ctrl-C only asks to stop, so that a step is never cut in half; a second one stops at once."""

    def __enter__(self):
        self.asked = False
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


class Trainer:
    """Trains ``model`` on losses that ``step_loss`` computes.

    Args:
        model: trained in place; ``self.averaged`` holds the moving average of its weights.
        step_loss: called with the step number; draws its own batch and returns the loss and numbers to log.
        config: the schedule.
        out: folder for ``state.pt`` and ``log.csv``, made if missing.
        generators: sources of random batches, saved with the state.
        info: plain values to keep with the state, such as the settings of the run.
        parts: whatever else learns or moves on, by name; saved with the state through ``state_dict``.
        groups: parameters with weight decays of their own; all alike if left out.
    """

    talks = True  # whether this process shows a bar and messages

    def __init__(
        self,
        model: nn.Module,
        step_loss: Callable[[int], tuple[Tensor, dict[str, float]]],
        config: LoopConfig,
        out: Path,
        generators: list[Generator],
        info: dict | None = None,
        parts: dict | None = None,
        groups: list[dict] | None = None,
    ):
        self.model, self.step_loss, self.config, self.generators = model, step_loss, config, generators
        self.optimizer = self._make_optimizer(groups or [p for p in model.parameters() if p.requires_grad])
        self.averaged = self._copy_weights()
        self.step, self.seconds, self.rows, self.info, self.parts = 0, 0.0, [], info or {}, parts or {}
        make_folder(out)
        self.state_path, self.log_path = out / "state.pt", out / "log.csv"

    def _make_optimizer(self, groups: list, **options) -> torch.optim.Optimizer:
        rates = {"lr": self.config.lr, "betas": (0.9, 0.95), "weight_decay": self.config.weight_decay}
        return torch.optim.AdamW(groups, **rates, **options)

    def _copy_weights(self) -> nn.Module:
        return copy.deepcopy(self.model).requires_grad_(False).eval()

    def save(self) -> None:
        """Write the state and the log."""
        save_state(
            self.state_path,
            {
                "info": self.info,
                "step": self.step,
                "seconds": self.seconds,
                "rows": self.rows,
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "parts": self._parts(),
                "generators": [g.get_state() for g in self.generators],
                "torch": torch.get_rng_state(),
            },
        )
        self.write_log()

    def _parts(self) -> dict:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def write_log(self) -> None:
        """Write ``log.csv``, with all rows so far."""
        with open(self.log_path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]) if self.rows else ["step"])
            writer.writeheader()
            writer.writerows(self.rows)

    def resume(self) -> None:
        """Go back to the saved state: weights, optimiser, step, and every source of random numbers.

        Raises:
            UserError: no state, an unreadable one, or one of another model.
        """
        state = load_state(self.state_path)
        try:
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{self.state_path}: of another model, profile or ladder ({first_line(error)})") from None
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved)
        torch.set_rng_state(state["torch"])
        self.step, self.seconds, self.rows = state["step"], state["seconds"], state["rows"]

    def fit(self) -> None:
        """Train to the last step, saving on the way.

        Raises:
            UserError: the loss is no longer a number; the last saved state is kept.
            KeyboardInterrupt: Ctrl-C; the step in hand is finished and saved first.
        """
        self.model.train()
        started = time.perf_counter() - self.seconds
        shown = self.talks and sys.stderr.isatty()
        bar = tqdm(total=self.config.steps, initial=self.step, disable=not shown, unit="step")
        with bar, Interrupt() as interrupt:
            while self.step < self.config.steps:
                numbers = self._step()
                self.seconds = time.perf_counter() - started
                bar.set_postfix({key: f"{value:.3g}" for key, value in numbers.items() if "/" not in key})
                bar.update()
                stop = self._must_stop(interrupt)
                last = self.step == self.config.steps or stop
                if last or self.step % self.config.log_every == 0:
                    self._note({"step": self.step, **numbers})
                if last or self.step % self.config.save_every == 0:
                    self.save()
                if stop:
                    if self.talks:
                        bar.write(f"stopped after step {self.step} and saved; --resume goes on from there", sys.stderr)
                    raise KeyboardInterrupt

    def _must_stop(self, interrupt: Interrupt) -> bool:
        return interrupt.asked

    def _note(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def _step(self) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        numbers = self._gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return numbers

    def _gradients(self) -> dict[str, float]:
        """Fill the gradients with those of one batch."""
        loss, numbers = self.step_loss(self.step)
        self._check(loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return {"loss": loss.item(), **numbers}

    def _check(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise UserError(f"step {self.step}: the loss is {loss.item()}; resume with a smaller learning rate")

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average follows closely; a fixed decay would remember the random start.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
