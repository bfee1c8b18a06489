"""``batch=auto``: a run's own batch, in as few rounds as fit into the device's memory."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from vartutor.errors import UserError
from vartutor.gpus import GPUS
from vartutor.plan.estimate import RUNS, Plan, Setup, make_plan
from vartutor.profiles import Profile
from vartutor.train.kinds import train
from vartutor.train.processes import Process
from vartutor.train.settings import Settings, TransformerSettings
from vartutor.train.trainer import Trainer
from vartutor.weights.files import STATE


def memory_of(process: Process) -> float:
    """Bytes that a process may take: its GPU's memory, else its share of the machine's.

    Raises:
        UserError: a machine that does not tell.
    """
    if process.device.type == "cuda":
        return torch.cuda.get_device_properties(process.device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / process.size
    except (AttributeError, ValueError):
        raise UserError("batch=auto: this machine does not tell its memory; give a number") from None


def plan_of(kind: str, run: Settings, memory: float, processes: int, checkpointing: bool | None = None) -> Plan:
    """What a run with these settings needs on devices of so many bytes.

    Raises:
        UserError: a kind of run that is not planned.
    """
    if kind not in RUNS:
        raise UserError(f"batch=auto: a {kind} is not planned; give a number")
    batch = run.profile.batch_of(kind) if run.batch == "auto" else run.batch
    how = {"strategy": run.strategy, "bf16": run.bf16, "perceptual": kind != "tokenizer" or run.losses.perceptual > 0}
    gpu = replace(GPUS["h100"], name="this device", memory=memory)
    return make_plan(kind, _told(run), Setup(gpu, processes, batch, checkpointing=checkpointing, **how))


def _told(run: Settings) -> Profile:
    """The profile, with what the settings say of the model instead."""
    if not isinstance(run, TransformerSettings):
        return run.profile
    recipe = replace(run.profile.transformer, prior=run.prior, encoded=run.encoded, slip=run.objective.slip)
    return replace(run.profile, transformer=recipe)


def fit(kind: str, run: Settings, process: Process) -> tuple[Settings, str]:
    """The settings with numbers for ``batch=auto``, and a line that says which; others as they are, and no line.

    The batch is the profile's, so that the result does not depend on the device. It is cut into rounds, and blocks are
    computed twice where otherwise too few photos would fit.

    Raises:
        UserError: not one photo fits; see also :func:`plan_of`.
    """
    if run.batch != "auto":
        return run, ""
    memory = memory_of(process)
    plan = plan_of(kind, run, memory, process.size)
    if not plan.largest:
        raise UserError(f"batch=auto: not one photo fits into {memory / 1e9:.0f} GB: take strategy=fsdp, or less")
    recipe = replace(run.profile.transformer, checkpointing=plan.setup.checkpointing)
    run = replace(run, batch=plan.setup.batch, profile=replace(run.profile, transformer=recipe))
    run = in_rounds(run, process.size, plan.accumulate)
    each = run.batch // process.size // run.accumulate
    need = (plan.state + plan.counts.activations(each)) / 1e9
    again = ", blocks computed twice" * recipe.checkpointing
    words = f"{run.batch} photos = {process.size} processes × {run.accumulate} rounds × {each}"
    return run, f"batch by plan: {words}, {need:.3g} GB of {memory / 1e9:.3g}{again}"


def in_rounds(run: Settings, processes: int, least: int) -> Settings:
    """In the fewest rounds from ``least`` on that share its batch evenly; one photo each where there are none."""
    each = max(1, run.batch // processes)
    return replace(run, accumulate=next((n for n in range(least, each) if each % n == 0), each))


def train_in_rounds(kind: str, run: Settings, out: Path, process: Process, resume: bool = False, **options) -> Trainer:
    """:func:`vartutor.train.kinds.train`; with ``batch=auto``, fitted by :func:`fit`.

    Where memory ends all the same, a single process goes on in twice as many rounds, and several stop.

    Raises:
        UserError: out of memory, and nothing left to halve; what to do is said.
    """
    fitted, line = fit(kind, run, process)
    while True:
        if line and process.rank == 0:
            print(line, flush=True)
        try:
            return train(kind, fitted, out, resume=resume, **options)
        except torch.OutOfMemoryError:
            rounds = fitted.accumulate
        again = in_rounds(fitted, process.size, 2 * rounds)
        if run.batch != "auto" or process.size > 1 or again.accumulate == rounds:
            words = f"begin again, or --resume, with --set accumulate={again.accumulate} --set batch={fitted.batch}"
            raise UserError(f"out of memory with {rounds} rounds per step: {words}")
        fitted, resume = again, (out / STATE).exists()
        line = f"out of memory: goes on with half as many photos at once, {fitted.accumulate} rounds per step"
        torch.cuda.empty_cache()
