"""Train the fidelity module: transformer, tokenizer and so all tokens stay frozen."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vartutor.data.draws import uniform
from vartutor.data.pairs import upscale_bicubic
from vartutor.errors import UserError
from vartutor.profiles import Profile
from vartutor.tokenizer.fidelity import BALANCED, Fidelity, decode_faithfully
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.job import Job
from vartutor.train.loop import LoopConfig
from vartutor.train.pairs import PairLoss
from vartutor.train.processes import Process
from vartutor.train.settings import Settings
from vartutor.train.source import Batch
from vartutor.transformer.photo import PhotoTransformer, restore_latents
from vartutor.weights.load import load_restorer

KEEP = 32, 8  # steps whose tokens are kept, and how often each is used: to write them costs far more than a step
TOKENS = 113  # stream of the draws


@dataclass(frozen=True)
class FidelityObjective:
    """What is learned, by how large a module, and on what decode."""

    perceptual: float = 0.05  # weight of the perceptual distance beside the mean absolute error
    temperature: float = 1.0  # of the tokens that the decoder sees in training
    expected: bool = False  # mean codes instead of sampled ones
    hidden: int = 64  # the module's channels
    depth: int = 6  # its residual blocks

    def __post_init__(self):
        if self.perceptual < 0 or self.temperature <= 0:
            raise UserError(f"perceptual {self.perceptual:g}, temperature {self.temperature:g}: from 0 on, and above 0")
        if self.hidden < 1 or self.depth < 0:
            raise UserError(f"hidden {self.hidden}, depth {self.depth}: at least 1, and from 0 on")


@dataclass(frozen=True, kw_only=True)
class FidelitySettings(Settings):
    """Of a fidelity module's run."""

    model: str = "course"  # the transformer whose tokens are decoded: a shipped one, or a run
    objective: FidelityObjective = FidelityObjective()

    @classmethod
    def _of(cls, profile: Profile) -> "FidelitySettings":
        loop = LoopConfig(profile.transformer.fidelity_steps, lr=1e-3)
        return cls(profile=profile, loop=loop, batch=profile.batch_size, degradation=profile.degradation)


@dataclass(frozen=True)
class Written:
    """Photos for which the transformer wrote its tokens.

    ``photo`` (B, 3, h, w) degraded, ``f_hats`` {s: (B, C, h_s, w_s)}, ``hr`` {s: (B, 3, H_s, W_s)} clean.
    """

    photo: Tensor
    f_hats: dict[int, Tensor]
    hr: dict[int, Tensor]


def fidelity_job(
    run: FidelitySettings,
    process: Process,
    new: bool = True,
    over: tuple[PhotoTransformer, HierarchicalTokenizer] | None = None,
) -> Job:
    """A module beside a frozen decoder.

    Args:
        over: transformer and tokenizer, instead of those that the settings name.

    Raises:
        UserError: a tokenizer without the small autoencoder.
    """
    model, tokenizer = (part.to(process.device) for part in over or load_restorer(run.model)[:2])
    asked = run.objective
    fidelity = Fidelity.of(tokenizer, asked.hidden, asked.depth).to(process.device)
    decode = {"temperature": asked.temperature, "expected": asked.expected}

    @torch.no_grad()
    def prepare(batch: Batch) -> Written:
        draws = uniform(batch.seeds, model.config.tokens, TOKENS)
        return Written(batch.lr, restore_latents(model, tokenizer, batch.lr, uniform=draws, **decode), batch.hr)

    def look(seen: Written) -> dict[int, Tensor]:
        photos = upscale_bicubic(seen.photo)
        z = {s: tokenizer.post_quant_conv(f_hat) for s, f_hat in seen.f_hats.items()}
        return {s: fidelity(tokenizer.decoder, z[s], photos[s], s) for s in z}

    def restore(batch: Batch) -> dict[int, Tensor]:
        seen, photos = prepare(batch), upscale_bicubic(batch.lr)
        return {s: decode_faithfully(tokenizer, fidelity, f, photos[s], s, BALANCED) for s, f in seen.f_hats.items()}

    info = {"kind": "fidelity", "tokenizer": tokenizer.config.to_json(), "transformer": model.settings}
    info |= {"config": fidelity.settings, "objective": asdict(asked)}
    loss = PairLoss(look, asked.perceptual, run.bf16, process.device)
    parts = {"tokenizer": tokenizer, "transformer": model}
    return Job(fidelity, loss, info, prepare, KEEP, parts, restore=restore, compiles={"fidelity": [fidelity.block]})
