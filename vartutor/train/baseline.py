"""Train the convolutional super-resolver on the pairs that the transformer trains on.

By the mean absolute error alone it is the fair line for PSNR; with some weight on the perceptual distance it is the
fair one for that, which the transformer's samples have to beat.
"""

import statistics
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import Degradation
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.perceptual import PerceptualDistance
from vartutor.profiles import Profile
from vartutor.train.checkpoint import load_state
from vartutor.train.loop import LoopConfig, Trainer
from vartutor.train.runs import ready


class BaselineLoss:
    """Draws a batch of pairs, restores it, and measures the error; called by :class:`Trainer`.

    Args:
        perceptual: weight of the perceptual distance beside the mean absolute error.
        seed: seeds ``self.generator``, which draws the degradations.

    Raises:
        UserError: a negative weight.
    """

    def __init__(
        self,
        net: CnnSuperResolver,
        crops: RandomCrops,
        preset: Degradation,
        *,
        perceptual: float = 0.0,
        seed: int = 0,
        bf16: bool = False,
    ):
        if perceptual < 0:
            raise UserError(f"perceptual {perceptual:g}: give a weight from 0 on")
        self.net, self.crops, self.preset, self.bf16, self.weight = net, crops, preset, bf16, perceptual
        self.perceptual = PerceptualDistance() if perceptual else None
        self.generator = Generator().manual_seed(seed)

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch, the mean over scales, and its RGB-PSNR in dB per scale."""
        pairs = make_pairs(self.crops.batch(), self.preset, self.generator)
        with torch.autocast(pairs.lr.device.type, torch.bfloat16, enabled=self.bf16):
            images = self.net(pairs.lr)
        loss = sum(self._error(image, pairs.hr[s]) for s, image in images.items()) / len(images)
        scores = {s: psnr(image.detach(), pairs.hr[s], color="rgb").mean().item() for s, image in images.items()}
        return loss, {f"psnr{s}": score for s, score in scores.items()}

    def _error(self, image: Tensor, clean: Tensor) -> Tensor:
        error = F.l1_loss(image, clean)
        return error if self.perceptual is None else error + self.weight * self.perceptual(image, clean).mean()


def _fresh(
    config: CnnConfig, profile: Profile, preset: Degradation, seed: int, augment: bool, **options
) -> BaselineLoss:
    torch.manual_seed(seed)
    crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, augment=augment, seed=seed)
    return BaselineLoss(CnnSuperResolver(config), crops, preset, seed=seed, **options)


def steps_within(seconds: float, loss: BaselineLoss, trials: int = 5) -> int:
    """How many steps fit, by the median of a few trial steps, which train the net: give one to spare.

    Raises:
        UserError: less time than one step takes.
    """
    optimizer, durations = torch.optim.AdamW(loss.net.parameters()), []
    for step in range(trials + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss(step)[0].backward()
        optimizer.step()
        durations.append(time.perf_counter() - start)
    each = statistics.median(durations[1:])  # the first one warms up
    if seconds < each:
        raise UserError(f"{seconds} seconds: a single step takes {each:.2g}")
    return int(seconds / each)


def train_baseline(
    profile: Profile,
    out: Path,
    *,
    config: CnnConfig,
    preset: Degradation = COURSE,
    lr: float = 1e-3,
    perceptual: float = 0.0,
    augment: bool = False,
    seed: int = 0,
    steps: int | None = None,
    seconds: float | None = None,
    bf16: bool = False,
    resume: bool = False,
    origin: dict | None = None,
) -> Trainer:
    """Train on pairs made from the training photos; writes ``state.pt`` and ``log.csv`` to ``out``.

    Args:
        perceptual: see :class:`BaselineLoss`.
        augment: turned and recoloured crops, see :class:`RandomCrops`.
        steps: instead of the profile's.
        seconds: instead of steps: as many as fit into this time on this machine, by a few trial steps. Their number
            is settled before the first step, for the learning rate depends on it, and kept with the state.
        resume: go on from the state in ``out``, with the same numbers as if never stopped.
        origin: kept with the state, such as the command and the commit.

    Raises:
        UserError: both steps and seconds; a negative weight; a state that is missing, unreadable or of another net.
    """
    if steps is not None and seconds is not None:
        raise UserError("both --steps and --seconds: give one of them")
    fresh = partial(_fresh, config, profile, preset, seed, augment, perceptual=perceptual, bf16=bf16)
    if resume:
        steps = steps or load_state(out / "state.pt").get("info", {}).get("steps")
    elif seconds is not None:
        steps = steps_within(seconds, fresh())
    steps = steps or profile.baseline_steps
    loss = fresh()
    info = {
        "kind": "cnn",
        "config": config.to_json(),
        "seed": seed,
        "steps": steps,
        "lr": lr,
        "perceptual": perceptual,
        "augment": augment,
        "preset": preset.name,
        **(origin or {}),
    }
    schedule = LoopConfig(steps=steps, lr=lr, weight_decay=0.0)
    trainer = Trainer(loss.net, loss, schedule, out, [loss.crops.generator, loss.generator], info)
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer


def trained_cnn(state: dict) -> CnnSuperResolver:
    """The averaged weights of a training state, rounded to float16 and back, ready for use.

    Raises:
        UserError: a state of something else.
    """
    info = state.get("info", {})
    if info.get("kind") != "cnn":
        raise UserError("this training state holds no convolutional super-resolver")
    return ready(CnnSuperResolver(CnnConfig.from_json(info["config"])), state["averaged"])
