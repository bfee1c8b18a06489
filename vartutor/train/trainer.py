"""The one training loop: any model, on one process or many, on any device, with a state that resumes bit for bit."""

import math
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from vartutor.data.draws import mix
from vartutor.errors import UserError, first_line
from vartutor.paths import make_folder
from vartutor.tables import write_table
from vartutor.train.job import InForward, Job, shard, some_are_idle
from vartutor.train.look import Look
from vartutor.train.loop import Moment, Numbers, learning_rate
from vartutor.train.processes import Interrupt, Process
from vartutor.train.settings import Settings
from vartutor.train.source import Feed, StoreSource, make_source
from vartutor.train.speed import Speed
from vartutor.train.state import BEST, Averages, broken, fill, gathered, moments, save_state, set_moments
from vartutor.weights.files import STATE, load_state

PATIENCE = 10  # steps after which several processes ask one another whether to stop


class Trainer:
    """Trains a job to its end: warm-up and cosine, clipping, averaged weights, validation, states.

    Attributes:
        rows: what was logged, as ``log.csv`` holds it.
        averages: the moving average of the weights; ``with averages.in_use():`` the model has them.
    """

    def __init__(self, job: Job, run: Settings, out: Path, process: Process, source: StoreSource | None = None):
        run.check(process.size)
        self.job, self.run, self.out, self.process = job, run, out, process
        self.model, self.outer = job.model, InForward(job.model)
        self.several, self.talks = process.size > 1, process.rank == 0
        self.sharded = self.several and run.strategy == "fsdp"
        self._compile()
        if self.sharded:
            shard(self.outer)
        groups = job.groups(self.model) if job.groups else [p for p in self.model.parameters() if p.requires_grad]
        rates = {"lr": run.loop.lr, "betas": (0.9, 0.95), "weight_decay": run.loop.weight_decay}
        self.optimizer = torch.optim.AdamW(groups, **rates, fused=process.device.type == "cuda")
        self.averages = Averages(self.model)
        if self.several and not self.sharded:
            self.outer = DistributedDataParallel(self.outer, find_unused_parameters=some_are_idle(self.model))
        self.feed = Feed(source or make_source(run, process), run, process, job.prepare, job.keep)
        self.step, self.seconds, self.best, self.rows = 0, 0.0, float("inf"), []
        self.agreed = 0.0  # seconds, as all processes see them
        self.speed, self.look, self.timed_out = None, None, False
        make_folder(out)
        self.path, self.writer = out / STATE, _tensorboard(out) if run.tensorboard and self.talks else None

    def _compile(self) -> None:
        for name in self.run.compile:
            if name not in self.job.compiles:
                raise UserError(f"compile: no part {name!r}: choose from {', '.join(self.job.compiles) or 'none'}")
            for module in self.job.compiles[name]:
                module.compile(dynamic=False, mode="reduce-overhead" if self.run.cuda_graphs else None)

    # --- states --------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the state and the log; every process must call it.

        Raises:
            UserError: weights that are no finite numbers, a full disk, a folder that is not writable; the state before
                is intact.
        """
        state = self._published() | {"model": gathered(self.model.state_dict())}
        state |= {"optimizer": moments(self.model, self.optimizer), "best": self.best}
        self._write(self.path, state)

    def _published(self) -> dict:
        parts = {name: part.state_dict() for name, part in self.job.parts.items()}
        info = self.job.info | {"settings": self.run.to_json()}
        written = {"info": info, "step": self.step, "seconds": self.seconds, "rows": self.rows, "parts": parts}
        return written | {"averaged": gathered(self.averages.values)}

    def _write(self, path: Path, state: dict) -> None:
        failed = broken(state, self.model)
        failed = failed and f"step {self.step}: {failed}; {self._advice()}"
        if self.talks and not failed:
            try:
                save_state(path, state)
                self._write_log()
            except UserError as error:
                failed = str(error)
        if self.process.most(float(bool(failed))):
            raise UserError(failed or f"{path}: the first process could not write it")

    def _advice(self) -> str:
        """What to do after a run went wrong."""
        smaller = f"with a smaller loop.lr, such as --set loop.lr={self.run.loop.lr / 10:g}"
        if self.path.exists():
            return f"the last saved state is kept: --resume {smaller}"
        return f"nothing is saved yet: begin again {smaller}"

    def _write_log(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row)) or ["step"]
        write_table(self.out / "log.csv", names, ([row.get(name, "") for name in names] for row in self.rows))

    def resume(self) -> None:
        """Go back to the saved state, whatever the number of processes that wrote it.

        Raises:
            UserError: no state, an unreadable one, or one of another model.
        """
        state = load_state(self.path)
        try:
            if line := broken(state, self.model):
                raise UserError(f"{self.path}: {line}; begin again in another --out, with a smaller loop.lr")
            fill(self.model.state_dict(), state["model"])
            fill(self.averages.values, state["averaged"])
            set_moments(self.model, self.optimizer, state["optimizer"])
            for name, part in self.job.parts.items():
                part.load_state_dict(state["parts"][name])
            self.step, self.seconds, self.best = int(state["step"]), float(state["seconds"]), float(state["best"])
            self.rows = [dict(row) for row in state["rows"]]
            if min(self.step, self.seconds) < 0:
                raise ValueError("less than nothing is done")
        except UserError:
            raise
        except Exception as error:  # what junk in a state makes torch raise is of many kinds
            raise UserError(f"{self.path}: of another model, profile or ladder ({first_line(error)})") from None
        self.agreed = self.seconds

    # --- the loop ------------------------------------------------------------------------------------------

    def fit(self, max_hours: float = 0.0) -> None:
        """Train to the end, saving on the way.

        Args:
            max_hours: save and stop after this time; 0 never.

        Raises:
            UserError: a loss, gradient, weight or measure that is no finite number; the last saved state is kept.
            KeyboardInterrupt: Ctrl-C or a request to terminate; the step in hand is finished and saved first.
        """
        self.model.train()
        begin, before = time.perf_counter(), self.seconds
        bar = tqdm(total=None, disable=not (self.talks and sys.stderr.isatty()), unit="step", initial=self.step)
        bar.total = None if self.run.loop.seconds else self.run.loop.steps
        with bar, ExitStack() as stack, Interrupt() as interrupt:
            if self.writer is not None:
                stack.callback(self.writer.close)
            while (moment := self._moment()) is not None:
                numbers = self._step(moment)
                self.seconds = before + time.perf_counter() - begin
                bar.update()
                asked = self._asked(interrupt, time.perf_counter() - begin, max_hours)
                self.timed_out = asked == 1
                self._after(moment, numbers, bar, stop=bool(asked))
                if asked == 2:
                    raise KeyboardInterrupt
                if asked:
                    return

    def _moment(self) -> Moment | None:
        """Where the next step stands; None where there is none."""
        loop = self.run.loop
        progress = (self.step + 1) / loop.steps
        if loop.seconds:
            if not self.several or self.step % PATIENCE == 0:  # all processes must agree
                self.agreed = self.process.most(self.seconds)
            progress = self.agreed / loop.seconds
        if progress > 1 or (loop.seconds and progress >= 1):
            return None
        return Moment(self.step, progress, progress == 1 or (self.step + 1) % loop.log_every == 0)

    def _asked(self, interrupt: Interrupt, seconds: float, max_hours: float) -> int:
        """0: go on; 1: the time is over; 2: somebody wants an end."""
        asked = 2 if interrupt.asked else int(0 < max_hours * 3600 <= seconds)
        if self.several:  # to ask makes the device wait, so not after every step
            due = self.step % PATIENCE == 0 or self.step % self.run.loop.save_every == 0
            asked = int(self.process.most(float(asked))) if due else 0
        return asked

    def _after(self, moment: Moment, numbers: Numbers, bar: tqdm, stop: bool) -> None:
        """What is done between two steps: look, log, save."""
        loop = self.run.loop
        last = stop or self._moment() is None
        due = lambda every: every and self.step % every == 0  # noqa: E731
        checked = moment.logged or last or due(loop.save_every) or self.process.device.type == "cpu"
        for name in ("loss", "gradient", "critic") if checked else ():
            if name in numbers and not torch.isfinite(numbers[name]):
                raise UserError(f"step {moment.step}: the {name} is {numbers[name]:g}; {self._advice()}")
        found = {}
        if due(loop.validate_every):
            found = self.measure()
        if due(self.run.images_every):
            with self.averages.in_use():
                picture = self._look().show(self.out / "samples", self.step)
            if picture is not None and self.writer is not None:
                self.writer.add_image("sample", (picture.clamp(-1, 1) + 1) / 2, self.step)
        if moment.logged or last or found:
            row = self._row(numbers) | found
            self.rows.append(row)
            shown = ("loss", "photos/s", "mfu", *(name for name in row if name.startswith("psnr")))
            bar.set_postfix({name: f"{row[name]:.3g}" for name in shown if name in row})
            for name, value in row.items() if self.writer is not None else ():
                self.writer.add_scalar(name, value, self.step)
        if found.get("held-out/loss", float("inf")) < self.best:
            self.best = found["held-out/loss"]
            self._write(self.out / BEST, self._published())
        if last or due(loop.save_every):
            self.save()

    def measure(self) -> dict[str, float]:
        """Numbers of the averaged weights on validation photos, see :meth:`vartutor.train.look.Look.measure`.

        Raises:
            UserError: one of them is no finite number.
        """
        with self.averages.in_use():
            found = self._look().measure(self.step)
        if bad := [name for name, value in found.items() if not math.isfinite(value)]:
            raise UserError(f"step {self.step}: {bad[0]} is {found[bad[0]]:g}; {self._advice()}")
        return found

    def report(self) -> str:
        """The same in a line."""
        found = {name.removeprefix("held-out/"): value for name, value in self.measure().items()}
        scales = [name.removeprefix("perceptual") for name in found if name.startswith("perceptual")]
        parts = [f"×{s} {found[f'psnr{s}']:.2f} dB (perceptual {found[f'perceptual{s}']:.3f})" for s in scales]
        return "validation photos: " + ", ".join([*parts, f"loss {found['loss']:.4f}"])

    def _look(self) -> Look:
        self.look = self.look or Look(self.job, self.outer, self.run, self.process)
        return self.look

    def _row(self, numbers: Numbers) -> dict[str, float]:
        """Means over the processes, as numbers; here the device is waited for."""
        names, values = list(numbers), [torch.as_tensor(value).float() for value in numbers.values()]
        means = self.process.mean(torch.stack([value.to(self.process.device) for value in values])).tolist()
        speed = self.speed.numbers()
        speed["photos/s"] *= self.process.size
        return {"step": self.step, **dict(zip(names, means, strict=True)), **speed}

    def _step(self, moment: Moment) -> Numbers:
        loop = self.run.loop
        if self.speed is None:
            each = self.run.batch // self.process.size
            self.speed = Speed(self.process.device, self.run.bf16, each, bool(self.run.compile))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(moment.progress, loop)
        torch.manual_seed(mix(self.run.seed, self.step, 2))  # for what is drawn once per step, such as revived codes
        numbers = self._gradients(moment)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), loop.clip)
        numbers["gradient"] = norm.full_tensor() if self.sharded else norm
        self.optimizer.step()
        self.job.finish(moment)
        self.step += 1
        # Early on the average follows closely; a fixed decay would remember the random start.
        self.averages.follow(min(loop.ema, (1 + self.step) / (10 + self.step)))
        self.speed.stepped()
        return numbers

    def _gradients(self, moment: Moment) -> Numbers:
        """Fill the gradients with those of the whole batch; the means of its rounds' numbers."""
        self.optimizer.zero_grad(set_to_none=True)
        rounds, total = self.run.accumulate, []
        for k in range(rounds):
            seen = self.feed(self.step, k)
            if self.speed.flops is None:
                self.model.eval()  # in which nothing learns
                self.speed.count(lambda: self.outer(self.job.loss, seen, Moment(logged=False)), rounds)  # noqa: B023
                self.model.train()
            with self._exchange(last=k == rounds - 1):
                loss, numbers = self.outer(self.job.loss, seen, moment)
                (loss / rounds).backward()
            total.append({"loss": loss.detach(), **numbers})
        return {name: sum(row[name] for row in total) / rounds for name in total[0]}

    def _exchange(self, last: bool):
        """Gradients are added up in every process, and exchanged once, after the last round."""
        if self.sharded:
            self.outer.set_requires_gradient_sync(last)
        return self.outer.no_sync() if self.several and not self.sharded and not last else nullcontext()


def _tensorboard(out: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("tensorboard=true needs the package: pip install -e '.[gpu]'") from None
    return SummaryWriter(out / "tensorboard")
