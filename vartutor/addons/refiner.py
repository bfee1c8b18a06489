"""A diffusion refiner: what the tokens of the finest map leave unsaid, drawn as real numbers.

VARSR's (Qu et al., 2025): a :class:`.diffusion.DiffusionNetwork` draws what the clean features still lack of every
position, f - f_hat, given the transformer's last hidden state there and the code that was said. Theirs learns together
with the transformer, on true tokens; ours afterwards, and on the transformer's own tokens unless asked otherwise.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vartutor.addons.diffusion import Diffusion, DiffusionNetwork
from vartutor.addons.guidance import Guided
from vartutor.errors import UserError
from vartutor.transformer.generate import Step
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, Writer, write_maps
from vartutor.weights import load_addition

REACH = 3.0  # standard deviations of the residual that are drawn, in both directions; VARSR's bound is 0.6, for its own


class Refiner(nn.Module):
    """Draws residuals of the finest map; every position by itself.

    Args:
        channels: C.
        hidden: D of the transformer.
        width, blocks: of the network.
        steps: of the way back; the fewer, the faster.

    Attributes:
        unit: (C,) the largest residual that can be drawn, per channel.
    """

    def __init__(self, channels: int, hidden: int, width: int = 128, blocks: int = 3, steps: int = 10):
        super().__init__()
        self.hidden, self.steps = hidden, steps
        self.network = DiffusionNetwork(channels, hidden + channels, width, blocks)
        self.register_buffer("unit", torch.ones(channels))
        self.learning, self.drawing = Diffusion(), Diffusion(kept=steps)

    @classmethod
    def of(cls, config: TransformerConfig, width: int = 128, blocks: int = 3) -> "Refiner":
        """An untrained one for a transformer."""
        return cls(config.channels, config.width, width, blocks)

    @property
    def settings(self) -> dict:
        """The arguments that make another one of the same shape, in words that JSON can hold."""
        channels, width = len(self.unit), self.network.stem.out_features
        return {
            "channels": channels,
            "hidden": self.hidden,
            "width": width,
            "blocks": len(self.network.blocks),
            "steps": self.steps,
        }

    @torch.no_grad()
    def calibrate(self, rest: Tensor) -> None:
        """Set ``unit`` by residuals (B, n, C)."""
        self.unit.copy_(REACH * rest.flatten(0, 1).std(0))

    def condition(self, hidden: Tensor, said: Tensor) -> Tensor:
        """(b, n, D) and (B, n, C) -> (b n, D + C); b is B, or 2 B with a null branch behind."""
        said = (said / self.unit).repeat(len(hidden) // len(said), 1, 1)
        return torch.cat([F.layer_norm(hidden, hidden.shape[-1:]), said], -1).flatten(0, 1)

    def losses(self, hidden: Tensor, said: Tensor, rest: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of ε and variational bound, their means over all positions: scalars.

        Args:
            hidden, said: the transformer's last hidden states of the finest map (B, n, D); the vectors said (B, n, C).
            rest: (B, n, C), f - f_hat.
            t: (B, n) int64, a step of the diffusion for each position.
            noise: (B, n, C), normal.
        """
        x, z, t = (rest / self.unit).flatten(0, 1), self.condition(hidden, said), t.flatten()
        noise = noise.flatten(0, 1)
        x_t = self.learning.noisy(x, t, noise)
        error, bound = self.learning.losses(self.network(x_t, t, z).float(), x, x_t, t, noise)
        return error.mean(), bound.mean()

    def draw(self, count: int, positions: int, generator: Generator | None = None) -> Tensor:
        """Noise for :meth:`forward`, (count, S, positions, C)."""
        return torch.randn(count, self.steps, positions, len(self.unit), generator=generator)

    @torch.no_grad()
    def forward(
        self, hidden: Tensor, said: Tensor, noise: Tensor, guidance: float = 0.0, temperature: float = 1.0
    ) -> Tensor:
        """A residual for every position, (B, n, C).

        Args:
            hidden: (B, n, D), or (2 B, n, D) with a null branch behind, for guidance.
            said: (B, n, C).
            noise: (B, S, n, C), from :meth:`draw`.
            guidance, temperature: see :meth:`vartutor.addons.diffusion.Diffusion.sample`.
        """
        z = self.condition(hidden, said)
        x = self.drawing.sample(self.network, z, noise.transpose(0, 1).flatten(1, 2), guidance, temperature)
        return x.view(said.shape) * self.unit


class Refined:
    """Writes token maps as another does, and adds what the finest leaves unsaid to its f_hat.

    Args:
        temperature: of the refiner; 0 is the surest, 1 as VARSR draws.
        write: the other, such as :class:`vartutor.addons.guidance.Guided`, whose guidance is the refiner's too.

    Raises:
        UserError: no refiner, or a temperature below 0.
    """

    def __init__(self, refiner: Refiner | None, temperature: float = 0.0, write: Writer = write_maps):
        if not 0 <= temperature < math.inf:
            raise UserError(f"refine {temperature:g}: give a temperature from 0 on")
        if refiner is None:
            raise UserError("this model has no refiner: leave refine out, or train one (vartutor train refiner)")
        self.refiner, self.temperature, self.write = refiner, temperature, write

    @torch.no_grad()
    def __call__(self, model, tokenizer, photo: Tensor, *, generators: list[Generator], **options) -> Iterator[Step]:
        """For photos (B, 3, h, w) with one generator each; all as of ``write_maps``."""
        refiner, guidance = self.refiner.to(photo.device), getattr(self.write, "guidance", 0.0)
        for step in self.write(model, tokenizer, photo, generators=generators, **options):
            if step.k == len(model.config.patch_nums) - 1:
                noise = torch.cat([refiner.draw(1, step.said.shape[1], own) for own in generators]).to(photo.device)
                rest = refiner(step.hidden, step.said, noise, guidance, self.temperature)
                step = replace(step, f_hat=step.f_hat + rest.transpose(1, 2).unflatten(2, step.f_hat.shape[-2:]))
            yield step


def load_refiner(source: str | Path = "course") -> Refiner | None:
    """The refiner of a transformer: shipped with it, or of the same run; None where there is none."""
    return load_addition("refiner", Refiner, source)


def make_writer(
    model: PhotoTransformer,
    guidance: float = 0.0,
    negative: str = "null",
    refine: float | None = None,
    refiner: Refiner | None = None,
) -> Writer:
    """How token maps are written, as the commands are asked for it: plainly, guided, refined at a temperature, or both.

    Raises:
        UserError: an unknown negative, guidance of a model that was trained without, refine below 0 or without a
            refiner.
    """
    write = Guided(guidance, negative)
    if guidance:
        write.check(model)
    else:
        write = write_maps
    return write if refine is None else Refined(refiner, refine, write)
