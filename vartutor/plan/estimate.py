"""From a profile and a kind of GPU to memory, hours and money."""

import math
from dataclasses import dataclass, replace

from vartutor.errors import UserError
from vartutor.gpus import Gpu
from vartutor.plan.steps import Counts, count_step
from vartutor.profiles import Profile
from vartutor.train.settings import STRATEGIES

RUNS = ("tokenizer", "transformer", "preference")
STATE_BYTES = 20  # per trained parameter: weight, gradient, AdamW's two averages, averaged weight, 4 bytes each
USABLE = 0.9  # of the memory: the rest is for CUDA itself, buffers of NCCL, and fragments
UTILISATION = 0.2  # of the GPU's peak, until it is measured: about what the paper's own hours come to (chapter 12)
BUSY = 4  # images at once that keep a GPU busy
OPTIMIZER_TRAFFIC = 40  # bytes per parameter: AdamW reads 16 and writes 12, the averaged weights read 8 and write 4


@dataclass(frozen=True)
class Setup:
    """What a run is to be done on, and how."""

    gpu: Gpu
    gpus: int = 8
    batch: int | None = None  # images per step, over all GPUs; None: the profile's
    steps: int | None = None
    strategy: str = "ddp"
    utilisation: float | None = None  # share of the GPU's peak, as measured; None: UTILISATION is assumed
    checkpointing: bool | None = None  # None: only where otherwise fewer than BUSY images fit
    bf16: bool = True
    price: float | None = None  # dollars per hour and GPU, instead of the table's
    perceptual: bool = True  # a tokenizer's loss has the perceptual distance, as the shipped settings have it


@dataclass(frozen=True)
class Plan:
    """Figures of one run; bytes and images are those of one GPU."""

    run: str
    profile: str
    setup: Setup
    counts: Counts
    state: float  # bytes of weights, gradients, averages, and of what is frozen
    largest: int  # images that fit at once
    accumulate: int  # rounds of forward and backward per step, so that the batch fits
    at_once: int  # images per round
    peak: float  # bytes at the fullest moment
    step_flops: int  # of the whole batch
    utilisation: float
    step_seconds: float
    steps: int
    hours: float  # of the whole run
    price: float  # dollars per hour and GPU
    cost: float  # dollars for all GPUs and hours


def make_plan(run: str, profile: Profile, setup: Setup) -> Plan:
    """All figures of a run; of the same run on another GPU they cost nothing, for steps are counted once.

    Raises:
        UserError: an unknown run or strategy, or numbers that make no sense.
    """
    batch, gpus, gpu = setup.batch or profile.batch_of(run), setup.gpus, setup.gpu
    setup = replace(setup, batch=batch)
    _check(run, setup)
    if setup.checkpointing is None:
        plan = make_plan(run, profile, replace(setup, checkpointing=False))
        if run == "tokenizer" or plan.largest >= min(BUSY, batch // gpus):
            return plan
        return make_plan(run, profile, replace(setup, checkpointing=True))
    profile = replace(profile, transformer=replace(profile.transformer, checkpointing=setup.checkpointing))
    counts = count_step(run, profile, setup.bf16, setup.perceptual)
    parameters = counts.parameters / (gpus if setup.strategy == "fsdp" else 1)  # that a GPU cares for
    state = STATE_BYTES * parameters + 4 * counts.frozen
    largest = counts.fit(USABLE * gpu.memory - state)
    accumulate = math.ceil(batch / (gpus * max(1, largest)))
    at_once = math.ceil(batch / (gpus * accumulate))
    flops = batch * counts.flops.total()
    utilisation = UTILISATION if setup.utilisation is None else setup.utilisation
    seconds = flops / (gpus * gpu.flops * utilisation) + OPTIMIZER_TRAFFIC * parameters / gpu.bandwidth
    recipe = profile.transformer
    steps = {"tokenizer": profile.tokenizer_steps, "transformer": recipe.steps, "preference": recipe.preference_steps}
    steps, price = setup.steps or steps[run], gpu.price if setup.price is None else setup.price
    hours = steps * seconds / 3600
    memory = state, largest, accumulate, at_once, state + counts.activations(at_once)
    time = flops, utilisation, seconds, steps, hours
    return Plan(run, profile.name, setup, counts, *memory, *time, price, hours * gpus * price)


def _check(run: str, setup: Setup) -> None:
    if run not in RUNS:
        raise UserError(f"unknown run {run!r}: choose one of {', '.join(RUNS)}")
    if setup.strategy not in STRATEGIES:
        raise UserError(f"unknown strategy {setup.strategy!r}: choose one of {', '.join(STRATEGIES)}")
    if min(setup.gpus, setup.batch, setup.steps or 1) < 1 or setup.batch < setup.gpus:
        raise UserError(
            f"batch {setup.batch} on {setup.gpus} GPUs: give whole numbers from 1 on, an image for every GPU"
        )
    if setup.utilisation is not None and not 0 < setup.utilisation <= 1:
        raise UserError(f"utilisation {setup.utilisation}: give a share above 0 and at most 1")
