"""The kinds of runs, and the one way into all of them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vartutor.errors import UserError
from vartutor.train import jobs
from vartutor.train.job import Job
from vartutor.train.processes import this_process
from vartutor.train.settings import (
    BaselineSettings,
    FidelitySettings,
    PreferenceSettings,
    RefinerSettings,
    Settings,
    TokenizerSettings,
    TransformerSettings,
)
from vartutor.train.source import name_sets
from vartutor.train.trainer import Trainer
from vartutor.weights import kind_of, parts_of, transformer_of
from vartutor.weights.files import STATE, load_state
from vartutor.weights.state_dicts import whole_state


@dataclass(frozen=True)
class Kind:
    """One kind of run: its settings, how it is made, and what of a saved state its making needs again."""

    settings: type[Settings]
    job: Callable[..., Job]
    given: Callable[[dict], dict[str, Any]] = lambda state: {}


def _tokenizer_and_net(state: dict) -> dict[str, Any]:
    model, tokenizer = transformer_of(parts_of(state))
    return {"tokenizer": tokenizer, "restorer": model.restorer}


def _start(state: dict) -> dict[str, Any]:
    return {"start": (*transformer_of(parts_of(state), "start"), state["info"]["objective"])}


def _over(state: dict) -> dict[str, Any]:
    return {"over": transformer_of(parts_of(state))}


KINDS = {
    "tokenizer": Kind(TokenizerSettings, jobs.tokenizer_job),
    "transformer": Kind(TransformerSettings, jobs.transformer_job, _tokenizer_and_net),
    "preference": Kind(PreferenceSettings, jobs.preference_job, _start),
    "fidelity": Kind(FidelitySettings, jobs.fidelity_job, _over),
    "baseline": Kind(BaselineSettings, jobs.baseline_job),
    "refiner": Kind(RefinerSettings, jobs.refiner_job, _over),
}


def saved_settings(kind: str, out: Path) -> Settings:
    """What the run in a folder was told.

    Raises:
        UserError: no state, or one of another kind.
    """
    return KINDS[kind].settings.from_json(_saved(kind, out)["info"].get("settings"))


def is_finished(out: Path) -> bool:
    """Whether the run in a folder trained as long as it was told to."""
    state = load_state(out / STATE)
    with whole_state(out / STATE):
        loop = state["info"]["settings"]["loop"]
        return state["seconds"] >= loop["seconds"] if loop["seconds"] else state["step"] >= loop["steps"]


def _saved(kind: str, out: Path) -> dict:
    state = load_state(out / STATE)
    if (found := kind_of(state, out / STATE)) != kind:
        raise UserError(f"{out}: holds a {found}; go on with vartutor train {found}")
    return state


def train(
    kind: str,
    run: Settings,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    max_hours: float = 0.0,
    origin: dict | None = None,
    quiet: bool = True,
    report: bool = False,
    **given: Any,
) -> Trainer:
    """Train in this process, together with all others that ``torchrun`` started; writes its state and log to ``out``.

    Args:
        kind: one of ``KINDS``.
        run: settings of this kind.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto``: a GPU where there is one.
        resume: go on from the state in ``out``, with the same numbers as if never stopped.
        max_hours: save and stop after this time; 0 never.
        origin: kept with the state, such as the command and the commit.
        quiet: print nothing but a bar where there is a terminal.
        report: at the end, measure the averaged weights on validation photos, and say so.
        **given: models instead of those that the settings name, see the kinds' ``..._job``.

    Raises:
        UserError: settings that do not fit each other; a state that is missing, unreadable or of another model.
    """
    with this_process(device) as process:
        say = print if process.rank == 0 and not quiet else lambda *words, **how: None
        say(f"trains on {process}", flush=True)
        run.check(process.size)
        torch.manual_seed(run.seed)
        saved = _saved(kind, out) if resume else None
        if saved is not None:
            with whole_state(out / STATE):
                job = KINDS[kind].job(run, process, False, **KINDS[kind].given(saved))
        else:
            job = KINDS[kind].job(run, process, True, **given)
        say(*job.notes, sep="\n", end="\n" * bool(job.notes), flush=True)
        about = {"data": name_sets(run.data), "image_size": run.profile.image_size, "processes": process.size}
        about |= {name: getattr(run, name) for name in ("batch", "accumulate", "strategy", "bf16", "degradation")}
        job.info |= {"seed": run.seed, "run": about | {"device": str(process)}}
        first = saved["info"] if saved is not None else origin or {}  # the command that began it
        job.info |= {name: first[name] for name in ("command", "commit") if name in first}
        trainer = Trainer(job, run, out, process)
        if resume:
            trainer.resume()
        try:
            trainer.fit(max_hours)
        except KeyboardInterrupt:
            if process.rank == 0:
                print(f"stopped after step {trainer.step} and saved", file=sys.stderr)
            raise
        if trainer.timed_out and process.rank == 0:
            print(f"{max_hours:g} hours are over: stopped after step {trainer.step} and saved", file=sys.stderr)
        if report and not trainer.timed_out:
            say(trainer.report(), flush=True)
        return trainer
