"""Diffusion of short vectors, given a condition: noise in a thousand steps, and back in a few.

MAR's diffusion loss (Li et al., 2024, section 3.2), which VARSR takes over for its refiner (Qu et al., 2025): a small
network, modulated by step and condition, with the schedule, the learned variance and the loss of improved DDPM (Nichol
and Dhariwal, 2021, sections 3.1 to 3.3).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS, WAVES = 1000, 256  # T; and of the embedding of a step's number


class Diffusion:
    """x_t = √ᾱ_t x + √(1 - ᾱ_t) ε on a cosine schedule, and the way back. Tables are float64 and kept off modules.

    Args:
        kept: of these, so many are kept for sampling, evenly spaced from the first to the last; all if left out.

    Attributes:
        times: (S,) int64, the kept steps.
        alphas: (S,) ᾱ at each.
        betas: (S,) variance that a kept step adds.
    """

    def __init__(self, kept: int | None = None):
        t = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
        level = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()
        alphas = (1 - (1 - level[1:] / level[:-1]).clamp(max=0.999)).cumprod(0)
        self.times = torch.linspace(0, STEPS - 1, kept or STEPS, dtype=torch.float64).round().long()
        self.alphas = alphas[self.times]
        before = F.pad(self.alphas[:-1], (1, 0), value=1.0)
        self.betas = 1 - self.alphas / before
        self.variance = self.betas * (1 - before) / (1 - self.alphas)  # of the step before, given x and x_t
        self.log_variance = torch.cat([self.variance[1:2], self.variance[1:]]).log()  # that of step 0 is 0
        self.from_x = self.betas * before.sqrt() / (1 - self.alphas)
        self.from_x_t = (1 - before) * (1 - self.betas).sqrt() / (1 - self.alphas)

    def __len__(self) -> int:
        return len(self.times)

    def noisy(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t (N, C) of x (N, C) at kept steps t (N,)."""
        return _at(self.alphas.sqrt(), t, x) * x + _at((1 - self.alphas).sqrt(), t, x) * noise

    def posterior(self, x: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (N, C) and log-variance (N, 1) of the step before, given both ends."""
        return _at(self.from_x, t, x) * x + _at(self.from_x_t, t, x) * x_t, _at(self.log_variance, t, x)

    def predict(self, output: Tensor, x_t: Tensor, t: Tensor, clip: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """What a network's output says of the step before.

        Args:
            output: (N, 2 C): ε, and where the log-variance lies between its two bounds, -1 to 1.
            clip: x to [-1, 1].

        Returns:
            mean and log-variance of the step before, and x, (N, C) each.
        """
        noise, place = output.chunk(2, dim=1)
        low, high = _at(self.log_variance, t, x_t), _at(self.betas.log(), t, x_t)
        log_variance = low + (place + 1) / 2 * (high - low)
        x = _at(self.alphas.rsqrt(), t, x_t) * x_t - _at((1 / self.alphas - 1).sqrt(), t, x_t) * noise
        x = x.clamp(-1, 1) if clip else x
        return self.posterior(x, x_t, t)[0], log_variance, x

    def losses(self, output: Tensor, x: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of ε, and the variational bound in bits per channel, by which the variance learns: (N,) each.

        The bound is a divergence of normal distributions at every step. For t = 0 MAR counts gray levels, which
        latents do not have.
        """
        guess, place = output.chunk(2, dim=1)
        mean, log_variance, _ = self.predict(torch.cat([guess.detach(), place], 1), x_t, t, clip=False)
        true_mean, true_log = self.posterior(x, x_t, t)
        apart = (true_log - log_variance).exp() + (true_mean - mean).square() * (-log_variance).exp()
        divergence = 0.5 * (log_variance - true_log - 1 + apart)
        return (noise - guess).square().mean(1), divergence.mean(1) / math.log(2)

    @torch.no_grad()
    def sample(
        self, network: nn.Module, z: Tensor, noise: Tensor, guidance: float = 0.0, temperature: float = 1.0
    ) -> Tensor:
        """Walk all kept steps back.

        Args:
            network: (x_t, t, z) -> output.
            z: (N, Z), or (2 N, Z) with conditions to move away from behind.
            noise: (S, N, C), one draw for the start and one for every step but the last.
            guidance: see :func:`guided`.
            temperature: of the noise that a step adds, MAR's τ; 0 adds none.

        Returns:
            x (N, C), in [-1, 1] up to rounding.
        """
        x = noise[0]
        for step, i in enumerate(reversed(range(len(self))), 1):
            t = torch.full((len(z),), int(self.times[i]), device=x.device)
            output = guided(network, x, t, z, guidance)
            x, log_variance, _ = self.predict(output, x, torch.full((len(x),), i, device=x.device))
            if i:
                x = x + temperature * (log_variance / 2).exp() * noise[step]
        return x


def guided(network: nn.Module, x: Tensor, t: Tensor, z: Tensor, guidance: float) -> Tensor:
    """A network's output, ε moved away from what it would be under other conditions: (1 + c) ε - c ε'.

    Args:
        x: (N, C).
        t, z: (N,) and (N, Z); or twice as long, with the other conditions behind.
        guidance: c.

    Returns:
        (N, 2 C).
    """
    if len(z) == len(x):
        return network(x, t, z)
    output, other = network(x.repeat(2, 1), t, z).chunk(2)
    (noise, place), away = output.chunk(2, dim=1), other.chunk(2, dim=1)[0]
    return torch.cat([(1 + guidance) * noise - guidance * away, place], 1)


def _at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    return table.to(t.device)[t].to(like.dtype)[:, None]


class StepEmbedding(nn.Module):
    """The step's number as waves, then two layers: (N,) -> (N, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def embed(self, t: Tensor) -> Tensor:
        """(N,) -> (N, 256): cosines, then sines."""
        half = WAVES // 2
        angles = t[:, None].float() * torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
        return torch.cat([angles.cos(), angles.sin()], 1)

    def forward(self, t: Tensor) -> Tensor:
        return self.layers(self.embed(t))


class DiffusionBlock(nn.Module):
    """x + γ f(LN(x) (1 + scale) + shift), all three from the condition: (N, width) and (N, width) -> (N, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        shift, scale, gamma = self.modulation(F.silu(y)).chunk(3, dim=1)
        return x + gamma * self.layers(self.norm(x) * (1 + scale) + shift)


class DiffusionNetwork(nn.Module):
    """MAR's network: every vector by itself, modulated by its step and its condition. Untrained, its output is 0.

    Args:
        channels: C.
        condition: Z.
        width, blocks: of the network.
    """

    def __init__(self, channels: int, condition: int, width: int, blocks: int):
        super().__init__()
        self.time, self.condition = StepEmbedding(width), nn.Linear(condition, width)
        self.stem = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(DiffusionBlock(width) for _ in range(blocks))
        self.modulation, self.head = nn.Linear(width, 2 * width), nn.Linear(width, 2 * channels)
        for layer in (*(block.modulation for block in self.blocks), self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """(N, C), (N,) int64 out of the thousand, (N, Z) -> (N, 2 C), see :meth:`Diffusion.predict`."""
        h, y = self.stem(x), self.time(t) + self.condition(z)
        for block in self.blocks:
            h = block(h, y)
        shift, scale = self.modulation(F.silu(y)).chunk(2, dim=1)
        return self.head(F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)
