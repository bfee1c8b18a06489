"""From a profile and a kind of GPU to memory, hours and money, and a report that says how each figure is made."""

import math
from dataclasses import dataclass, replace

import torch

from vartutor.errors import UserError
from vartutor.gpus import Gpu
from vartutor.plan.flops import Flops, tokenizer_step, transformer_step
from vartutor.plan.memory import STATE_BYTES, tokenizer_activations, transformer_activations
from vartutor.profiles import Profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.transformer import make_config
from vartutor.transformer.photo import PhotoTransformer

RUNS = ("tokenizer", "transformer", "preference")
STRATEGIES = ("ddp", "fsdp")
USABLE = 0.9  # of the memory: the rest is for CUDA itself, buffers of NCCL, and fragments
OPTIMIZER_TRAFFIC = 40  # bytes per parameter: AdamW reads 16 and writes 12, the averaged weights read 8 and write 4


@dataclass(frozen=True)
class Setup:
    """What a run is to be done on, and how."""

    gpu: Gpu
    gpus: int = 8
    batch: int | None = None  # images per step, over all GPUs; None: the profile's
    steps: int | None = None
    strategy: str = "ddp"
    utilisation: float = 0.4  # share of the GPU's peak that the step reaches
    checkpointing: bool | None = None  # None: as the profile says
    bf16: bool = True
    price: float | None = None  # dollars per hour and GPU, instead of the table's


@dataclass(frozen=True)
class Plan:
    """Figures of one run; bytes are per GPU, FLOPs per image unless they say otherwise."""

    run: str
    profile: str
    setup: Setup
    parameters: int
    frozen: int  # parameters of the frozen tokenizer, and of the transformer that a preference run starts from
    tokens: int  # predicted or made per image
    flops: list[Flops]
    state: float  # weights, gradients, optimiser, averaged weights, and the frozen tokenizer
    fixed: float  # activations that do not depend on the batch
    per_image: float
    largest: int  # images per GPU that fit at once
    steps: int

    @property
    def accumulate(self) -> int:
        """Rounds of forward and backward per step, so that the batch fits."""
        return math.ceil(self.setup.batch / (self.setup.gpus * max(1, self.largest)))

    @property
    def at_once(self) -> int:
        """Images per GPU and round."""
        return math.ceil(self.setup.batch / (self.setup.gpus * self.accumulate))

    @property
    def peak(self) -> float:
        """Bytes per GPU at the fullest moment."""
        return self.state + self.fixed + self.at_once * self.per_image

    @property
    def image_flops(self) -> float:
        """Of a step, for one image."""
        return sum(part.total for part in self.flops)

    @property
    def step_flops(self) -> float:
        """Of the whole batch."""
        return self.setup.batch * self.image_flops

    @property
    def step_seconds(self) -> float:
        """Arithmetic at the stated utilisation, then the optimiser at the speed of the memory."""
        s = self.setup
        moved = OPTIMIZER_TRAFFIC * self.parameters / (s.gpus if s.strategy == "fsdp" else 1)
        return self.step_flops / (s.gpus * s.gpu.flops * s.utilisation) + moved / s.gpu.bandwidth

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.steps * self.step_seconds / 3600

    @property
    def cost(self) -> float:
        """Dollars for all GPUs."""
        price = self.setup.gpu.price if self.setup.price is None else self.setup.price
        return self.hours * self.setup.gpus * price


def planned_tokenizer(profile: Profile) -> MultiScaleTokenizer:
    """The profile's hierarchical tokenizer, without numbers in its weights."""
    with torch.device("meta"):
        model = build_tokenizer(TokenizerConfig.of(profile, "hit"))
        model.quantizer.use_moving_averages()
    return model


def planned_transformer(profile: Profile, tokenizer: MultiScaleTokenizer) -> PhotoTransformer:
    """The profile's transformer, without numbers in its weights."""
    recipe = profile.transformer
    with torch.device("meta"):
        config = make_config(profile, tokenizer)
        return PhotoTransformer(config, tokenizer.quantizer.codes, prior=recipe.prior, patch=recipe.patch)


def make_plan(run: str, profile: Profile, setup: Setup) -> Plan:
    """All figures of a run.

    Raises:
        UserError: an unknown run or strategy, or numbers that make no sense.
    """
    setup = replace(setup, batch=setup.batch or profile.batch_of(run))
    _check(run, setup)
    if setup.checkpointing is not None:
        profile = replace(profile, transformer=replace(profile.transformer, checkpointing=setup.checkpointing))
    setup = replace(setup, checkpointing=profile.transformer.checkpointing)
    size, tokenizer = profile.image_size, planned_tokenizer(profile)
    count = lambda m: sum(p.numel() for p in m.parameters() if p.requires_grad)  # noqa: E731
    if run == "tokenizer":
        parameters, frozen, steps = count(tokenizer), 0, profile.tokenizer_steps
        flops = tokenizer_step(tokenizer, size)
        needs = [tokenizer_activations(planned_tokenizer(profile), size, b, setup.bf16) for b in (1, 2)]
    else:
        recipe, model = profile.transformer, planned_transformer(profile, tokenizer)
        parameters, frozen, steps = count(model), sum(p.numel() for p in tokenizer.parameters()), recipe.steps
        branches = 1
        if run == "preference":  # clean and degraded tokens, and clean ones with slips; the start stays in memory
            frozen, steps, branches = frozen + parameters, recipe.preference_steps, 3 if recipe.slip else 2
        flops = transformer_step(model, tokenizer, size, branches)
        models = (planned_transformer(profile, tokenizer) for _ in range(2))
        needs = [transformer_activations(m, profile.lr_size, b, setup.bf16, branches) for b, m in enumerate(models, 1)]
    per_image = needs[1] - needs[0]
    fixed = needs[0] - per_image
    state = STATE_BYTES * parameters / (setup.gpus if setup.strategy == "fsdp" else 1) + 4 * frozen
    largest = math.floor((USABLE * setup.gpu.memory - state - fixed) / per_image)
    tokens = tokenizer.quantizer.tokens
    sizes = state, fixed, per_image, max(0, largest), setup.steps or steps
    return Plan(run, profile.name, setup, parameters, frozen, tokens, flops, *sizes)


def _check(run: str, setup: Setup) -> None:
    if run not in RUNS:
        raise UserError(f"unknown run {run!r}: choose one of {', '.join(RUNS)}")
    if setup.strategy not in STRATEGIES:
        raise UserError(f"unknown strategy {setup.strategy!r}: choose one of {', '.join(STRATEGIES)}")
    if min(setup.gpus, setup.batch, setup.steps or 1) < 1 or setup.batch < setup.gpus:
        raise UserError(
            f"batch {setup.batch} on {setup.gpus} GPUs: give whole numbers from 1 on, an image for every GPU"
        )
    if not 0 < setup.utilisation <= 1:
        raise UserError(f"utilisation {setup.utilisation}: give a share above 0 and at most 1")
