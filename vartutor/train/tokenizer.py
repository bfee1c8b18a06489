"""Train the tokenizers: of one map (``vq``), plain multi-scale (``var``) and hierarchical (``hit``)."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.draws import uniform
from vartutor.data.pairs import pyramid
from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.profiles import Profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.adversarial import Adversary
from vartutor.train.job import Job, Numbers
from vartutor.train.loop import LoopConfig, Moment
from vartutor.train.processes import Process
from vartutor.train.settings import Settings
from vartutor.train.source import Batch

BYPASS = 112  # stream of the draws


@dataclass(frozen=True)
class Losses:
    """Weights of the terms, and the care of the codebook."""

    l1: float = 1.0  # weight of the mean absolute error
    l2: float = 1.0  # of the mean squared error
    perceptual: float = 0.0  # of the perceptual distance
    quantizer: float = 0.25  # of the quantizer's own loss
    adversarial: float = 0.0  # of the critic's opinion, balanced against the other terms
    adversarial_start: float = 0.3  # share of the run before the critic begins
    bypass: float = 0.1  # share of the images that skip the quantizer
    codes: str = "ema"  # how the codebook learns: by moving averages (ema) or by the quantizer's loss (loss)
    votes: str = "scale"  # for ema: every scale counts alike (scale), or every vector does (token)
    revive_every: int = 50  # steps between revivals of unused codes; 0: never
    revive_until: float = 0.7  # share of the run


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings(Settings):
    """Of a tokenizer's run."""

    ladder: str = "hit"  # hit: hierarchical; var: plain, with the same token maps; vq: one map
    overlap: bool = True  # hit: a group starts from the groups before it; false: it quantizes its image alone
    losses: Losses = Losses()

    @classmethod
    def _of(cls, profile: Profile) -> "TokenizerSettings":
        loop = LoopConfig(profile.tokenizer_steps, lr=profile.tokenizer_lr)
        own = {"batch": profile.batch_of("tokenizer"), "degradation": profile.degradation}
        return cls(profile=profile, loop=loop, **own)

    def check(self, processes: int) -> None:
        """As for all settings; and whether the losses can be sharded."""
        super().check(processes)
        if processes > 1 and self.strategy == "fsdp" and (self.losses.adversarial or self.losses.codes != "ema"):
            raise UserError("fsdp trains a tokenizer with losses.codes=ema and losses.adversarial=0 only: take ddp")


class TokenizerLoss:
    """Reconstructs a batch, and weighs the errors; codes and critic move once per step, in :meth:`finish`."""

    def __init__(self, model: MultiScaleTokenizer, losses: Losses, bf16: bool = False):
        self.model, self.losses, self.bf16 = model, losses, bf16
        model.quantizer.deferred = True
        last = model.decoder.conv_out.weight
        self.perceptual = PerceptualDistance().to(last.device) if losses.perceptual else None
        self.adversary = Adversary(last) if losses.adversarial else None

    def __call__(self, batch: Batch, moment: Moment) -> tuple[Tensor, Numbers]:
        """Loss of a batch, a scalar; where it is logged, also PSNR in dB and the codes in use, per scale."""
        w, numbers = self.losses, {}
        learning, x = self.model.training, batch.x
        skip = uniform(batch.seeds, 1, BYPASS)[:, 0] < w.bypass if learning and w.bypass else None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            images, indices, loss = self.model(x, skip=skip)
        target = pyramid(x)
        if isinstance(images, Tensor):  # the plain tokenizer has the largest image only
            images = {max(target): images}
        images = {s: image.float() for s, image in images.items()}
        reconstruction = sum(self._error(image, target[s]) for s, image in images.items())
        loss = reconstruction + w.quantizer * loss
        if self.adversary is not None and learning and moment.progress >= w.adversarial_start:
            fake = list(images.values())
            loss = loss + w.adversarial * self.adversary.term(reconstruction, fake)
            numbers["critic"] = self.adversary.learn([target[s] for s in images], fake)
        if moment.logged:
            numbers |= {f"psnr{s}": psnr(x.detach(), target[s], color="rgb").mean() for s, x in images.items()}
            numbers |= {f"used/{k}": self._used(idx) for k, idx in enumerate(indices)}
        return loss, numbers

    def _error(self, image: Tensor, target: Tensor) -> Tensor:
        loss = self.losses.l1 * F.l1_loss(image, target) + self.losses.l2 * F.mse_loss(image, target)
        if self.perceptual is not None:
            loss = loss + self.losses.perceptual * self.perceptual(image, target).mean()
        return loss

    def _used(self, idx: Tensor) -> Tensor:
        hit = torch.zeros(len(self.model.quantizer.codes), device=idx.device)
        return hit.index_fill_(0, idx.flatten(), 1.0).sum()

    def finish(self, moment: Moment) -> Numbers:
        """Move codes and critic, by all that the step's rounds have seen."""
        w, quantizer = self.losses, self.model.quantizer
        quantizer.settle()
        due = w.revive_every and moment.step % w.revive_every == w.revive_every - 1
        if due and moment.progress < w.revive_until:
            quantizer.revive()
        if self.adversary is not None:
            self.adversary.finish()
        return {}


def make_tokenizer(config: TokenizerConfig, losses: Losses) -> MultiScaleTokenizer:
    """An untrained tokenizer, with its codebook cared for as ``losses`` say."""
    model = build_tokenizer(config)
    if losses.codes == "ema":
        model.quantizer.use_moving_averages(votes=losses.votes)
    return model


@torch.no_grad()
def reconstruct_scales(model: MultiScaleTokenizer, x: Tensor) -> dict[int, Tensor]:
    """(B, 3, H, W) in [-1, 1] -> {s: (B, 3, H_s, W_s)} from tokens; the plain tokenizer has the largest alone."""
    if isinstance(model, HierarchicalTokenizer):
        return model.decode_scales(model.tokenize(x))
    return {max(pyramid(x)): model.reconstruct(x)}


def tokenizer_job(run: TokenizerSettings, process: Process, new: bool = True) -> Job:
    """A tokenizer from nothing."""
    config = TokenizerConfig.of(run.profile, run.ladder, run.overlap)
    model = make_tokenizer(config, run.losses).to(process.device)
    loss = TokenizerLoss(model, run.losses, run.bf16)
    return Job(
        model,
        loss,
        {"kind": "tokenizer", "config": config.to_json(), "losses": asdict(run.losses)},
        parts={"adversary": loss.adversary} if loss.adversary else {},
        finish=loss.finish,
        restore=lambda batch: reconstruct_scales(model, batch.x),
        compiles={"tokenizer": [model.encoder, model.decoder]},
    )
