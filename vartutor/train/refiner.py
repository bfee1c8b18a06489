"""Train the diffusion refiner: transformer, tokenizer and so all tokens stay frozen."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vartutor.addons.refiner import Refiner
from vartutor.data.draws import normal, uniform
from vartutor.errors import UserError
from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.job import Job, Numbers
from vartutor.train.loop import LoopConfig, Moment
from vartutor.train.processes import Process
from vartutor.train.settings import Settings
from vartutor.train.source import Batch, make_source
from vartutor.transformer.generate import iterate
from vartutor.transformer.photo import PhotoTransformer, pair_features
from vartutor.weights.load import load_restorer

KEEP = 32, 16  # steps whose tokens are kept, and how often each is used, each time with other noise
TOKENS = 113  # stream of the draws


@dataclass(frozen=True)
class RefinerObjective:
    """Whose tokens the residuals are left by."""

    forced: bool = False  # true tokens, as VARSR trains, instead of the transformer's own
    temperature: float = 1.0  # of its own tokens
    expected: bool = False  # mean codes instead of sampled ones

    def __post_init__(self):
        if self.temperature <= 0:
            raise UserError(f"temperature {self.temperature:g}: give a number above 0")


@dataclass(frozen=True, kw_only=True)
class RefinerSettings(Settings):
    """Of a refiner's run."""

    model: str = "course"  # the transformer whose tokens are refined: a shipped one, or a run
    objective: RefinerObjective = RefinerObjective()

    @classmethod
    def _of(cls, profile: Profile) -> "RefinerSettings":
        loop = LoopConfig(profile.transformer.refiner_steps, lr=1e-3)
        return cls(profile=profile, loop=loop, batch=profile.batch_size, degradation=profile.degradation)


@dataclass(frozen=True)
class Unsaid:
    """What the finest map's tokens leave: hidden states (B, n, D), vectors said and residuals (B, n, C), seeds (B,)."""

    hidden: Tensor
    said: Tensor
    rest: Tensor
    seeds: Tensor


def refiner_job(
    run: RefinerSettings,
    process: Process,
    new: bool = True,
    over: tuple[PhotoTransformer, HierarchicalTokenizer] | None = None,
) -> Job:
    """A diffusion network over a frozen transformer; error of the noise and variational bound, VARSR's sum of both.

    Args:
        over: transformer and tokenizer, instead of those that the settings name.
    """
    model, tokenizer = (part.to(process.device) for part in over or load_restorer(run.model)[:2])
    asked, recipe = run.objective, run.profile.transformer
    refiner = Refiner.of(model.config, recipe.refiner_width, recipe.refiner_blocks).to(process.device)

    @torch.no_grad()
    def prepare(batch: Batch) -> Unsaid:
        clean, degraded = pair_features(tokenizer, batch.lr, batch.x)
        given = tokenizer.quantizer.tokenize(clean) if asked.forced else ()
        draws = uniform(batch.seeds, model.config.tokens, TOKENS)
        options = {"uniform": draws, "temperature": asked.temperature, "expected": asked.expected}
        *_, last = iterate(model.body, tokenizer, model.condition(batch.lr, degraded), given=given, **options)
        return Unsaid(last.hidden, last.said, (clean[-1] - last.f_hat).flatten(2).transpose(1, 2), batch.seeds)

    def loss(seen: Unsaid, moment: Moment) -> tuple[Tensor, Numbers]:
        count, stream = seen.rest.shape[1], 2**10 + 2 * moment.step  # other noise whenever a batch is used again
        t = (uniform(seen.seeds, count, stream) * len(refiner.learning)).long()
        noise = normal(seen.seeds, seen.rest[0].numel(), stream + 1).view_as(seen.rest)
        with torch.autocast(process.device.type, torch.bfloat16, enabled=run.bf16):
            error, bound = refiner.losses(seen.hidden, seen.said, seen.rest, t, noise)
        return error + bound, {"error": error.detach(), "bound": bound.detach()}

    if new:
        refiner.calibrate(prepare(make_source(run, process).batch(range(2**40, 2**40 + run.batch))).rest)
    info = {"kind": "refiner", "tokenizer": tokenizer.config.to_json(), "transformer": model.settings}
    info |= {"config": refiner.settings, "objective": asdict(asked)}
    parts = {"tokenizer": tokenizer, "transformer": model}
    return Job(refiner, loss, info, prepare, KEEP, parts)
