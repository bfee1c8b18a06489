"""From a clean photo to a degraded one: blur, resize, noise, JPEG, as functions and as one seeded pipeline.

The pipeline is the two-stage one of Real-ESRGAN (Wang et al., 2021, figure 2). What it draws is set by a
:class:`Degradation`; :mod:`vartutor.data.presets` holds the published and the course's settings.
Images are (B, 3, H, W) in [-1, 1]; noise is given in 8-bit gray levels.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from vartutor.data.images import check_floats, check_image, from_uint8, resize, to_uint8
from vartutor.data.kernels import gaussian_kernel, motion_kernel, plateau_kernel, sinc_kernel
from vartutor.errors import UserError

Range = tuple[float, float]


@dataclass(frozen=True)
class Blur:
    """How a stage draws its kernel; ``kinds`` maps (family, isotropic) to a weight."""

    probability: float = 1.0
    sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    kinds: tuple[tuple[str, bool, float], ...] = (("gaussian", True, 1.0),)
    sinc: float = 0.0  # share of sinc kernels
    sigma: Range = (0.2, 1.0)
    beta_gaussian: Range = (0.5, 4.0)  # shape of the generalized Gaussians
    beta_plateau: Range = (1.0, 2.0)
    length: Range = (1.0, 7.0)  # of motion, in pixels


@dataclass(frozen=True)
class Resize:
    """Random resampling; ``up``, ``down`` and ``keep`` are weights, ``range`` the factors."""

    up: float = 0.0
    down: float = 0.0
    keep: float = 1.0
    range: Range = (1.0, 1.0)
    modes: tuple[str, ...] = ("area", "bilinear", "bicubic")


@dataclass(frozen=True)
class Noise:
    """Gaussian with probability ``gaussian``, else Poisson; gray with probability ``gray``.

    With a ``kind``, ``impulse`` or ``speckle``, that noise alone, of strength ``amount``.
    """

    probability: float = 1.0
    gaussian: float = 1.0
    sigma: Range = (1.0, 5.0)  # 8-bit gray levels
    poisson: Range = (0.05, 1.0)  # 1 is the noise of a sensor with as many levels as the image has
    gray: float = 0.4
    kind: str = ""
    amount: Range = (0.0, 0.0)


@dataclass(frozen=True)
class Stage:
    """One round of damage; ``jpeg`` bounds the quality."""

    blur: Blur = Blur()
    resize: Resize = Resize()
    noise: Noise = Noise()
    jpeg: tuple[int, int] = (75, 95)


@dataclass(frozen=True)
class Degradation:
    """A whole pipeline: ``stages`` is empty for plain bicubic; the last one shrinks by ``scale``."""

    name: str
    stages: tuple[Stage, ...] = ()
    final_sinc: float = 0.0  # probability; then JPEG and sinc come in random order
    scale: int = 4


# --- the steps, each usable alone ------------------------------------------------------------------


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter (B, 3, H, W) with one (k, k) kernel; borders are mirrored, or repeated where the image is too small."""
    pad = kernel.shape[-1] // 2
    mode = "reflect" if pad < min(x.shape[-2:]) else "replicate"
    weight = kernel.to(x).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x, (pad,) * 4, mode=mode), weight, groups=x.shape[1])


def gaussian_noise(x: Tensor, sigma: float, *, gray: bool = False, generator: Generator | None = None) -> Tensor:
    """Add noise of ``sigma`` gray levels (of 255) to (B, 3, H, W), the same to all colours if ``gray``."""
    shape = (x.shape[0], 1 if gray else x.shape[1], *x.shape[2:])
    return x + torch.randn(shape, generator=generator).to(x) * (sigma / 127.5)


def poisson_noise(x: Tensor, scale: float, *, gray: bool = False, generator: Generator | None = None) -> Tensor:
    """Add shot noise, which grows with brightness, to (B, 3, H, W); ``scale`` multiplies it.

    As in Real-ESRGAN, the photon count of white is the number of distinct levels, rounded up to a power of two.
    """
    clean = to_uint8(x)
    if gray:
        weights = torch.tensor([0.299, 0.587, 0.114], device=x.device)
        clean = (clean * weights.view(1, 3, 1, 1)).sum(1, keepdim=True).round().to(torch.uint8)
    noise = []
    for image in clean:
        photons = 2.0 ** math.ceil(math.log2(max(2, len(image.unique()))))
        light = image.cpu().float() / 255
        noise.append(torch.poisson(light * photons, generator=generator) / photons - light)
    return x + torch.stack(noise).to(x) * (2 * scale)


def impulse_noise(x: Tensor, share: float, *, generator: Generator | None = None) -> Tensor:
    """Salt and pepper: a ``share`` of the pixels of (B, 3, H, W) turns black or white, equally often."""
    draws = torch.rand((x.shape[0], 1, *x.shape[2:]), generator=generator).to(x.device)
    return torch.where(draws < share, (draws < share / 2).to(x) * 2 - 1, x)


def speckle_noise(x: Tensor, sigma: float, *, generator: Generator | None = None) -> Tensor:
    """Multiply every number of light in (B, 3, H, W) by 1 + a normal one of standard deviation ``sigma``."""
    return (x + 1) * (1 + sigma * torch.randn(x.shape, generator=generator).to(x)) - 1


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Compress and decompress images (B, 3, H, W), as baseline JPEG with 4:2:0 chroma, at ``quality`` in 1..100."""
    decoded = []
    for pixels in to_uint8(x).permute(0, 2, 3, 1).cpu().numpy():
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=int(quality))
        decoded.append(torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1))
    return from_uint8(torch.stack(decoded)).to(x)


# --- drawing their settings ------------------------------------------------------------------------


class Dice:
    """Random choices from one generator."""

    def __init__(self, seed: int):
        self.generator = Generator().manual_seed(seed)

    def uniform(self, bounds: Range) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * torch.rand((), generator=self.generator).item()

    def chance(self, probability: float) -> bool:
        return self.uniform((0, 1)) < probability

    def choice(self, items, weights=None):
        weights = torch.tensor(weights or [1.0] * len(items))
        return items[int(torch.multinomial(weights, 1, generator=self.generator))]


def draw_kernel(spec: Blur, dice: Dice) -> Tensor:
    """One (k, k) kernel drawn from ``spec``."""
    size = dice.choice(spec.sizes)
    if dice.chance(spec.sinc):
        # Small kernels cannot hold low frequencies.
        return sinc_kernel(size, dice.uniform((math.pi / (3 if size < 13 else 5), math.pi)))
    family, isotropic, _ = dice.choice(spec.kinds, [weight for *_, weight in spec.kinds])
    if family == "motion":
        return motion_kernel(size, dice.uniform(spec.length), dice.uniform((0, math.pi)))
    sigma_x = dice.uniform(spec.sigma)
    sigma_y, theta = (sigma_x, 0.0) if isotropic else (dice.uniform(spec.sigma), dice.uniform((-math.pi, math.pi)))
    if family == "gaussian":
        return gaussian_kernel(size, sigma_x, sigma_y, theta)
    bounds = spec.beta_gaussian if family == "generalized" else spec.beta_plateau
    # Half of the shapes below 1 and half above, else the wide upper range would win.
    beta = dice.uniform((bounds[0], 1.0)) if dice.chance(0.5) else dice.uniform((1.0, bounds[1]))
    kernel = gaussian_kernel if family == "generalized" else plateau_kernel
    return kernel(size, sigma_x, sigma_y, theta, beta)


def draw_noise(x: Tensor, spec: Noise, dice: Dice) -> Tensor:
    """Add the noise that ``spec`` and the dice decide on to (1, 3, H, W)."""
    if not dice.chance(spec.probability):
        return x
    if spec.kind:
        add = impulse_noise if spec.kind == "impulse" else speckle_noise
        return add(x, dice.uniform(spec.amount), generator=dice.generator).clamp(-1, 1)
    gray = dice.chance(spec.gray)
    if dice.chance(spec.gaussian):
        noisy = gaussian_noise(x, dice.uniform(spec.sigma), gray=gray, generator=dice.generator)
    else:
        noisy = poisson_noise(x, dice.uniform(spec.poisson), gray=gray, generator=dice.generator)
    return noisy.clamp(-1, 1)


# --- the pipeline ----------------------------------------------------------------------------------


def degrade(
    x: Tensor,
    preset: Degradation,
    generator: Generator | None = None,
    *,
    seeds: list[int] | None = None,
    trace: list | None = None,
) -> Tensor:
    """Degrade clean photos to ``1 / preset.scale`` of their size.

    Every image gets a seed of its own, drawn from ``generator`` or given, so that its result does not depend
    on the batch it is in.

    Args:
        x: (B, 3, H, W) in [-1, 1], with H and W multiples of ``preset.scale``.
        preset: what to draw.
        generator: source of the seeds; torch's global one if left out.
        seeds: one per image, instead of ``generator``.
        trace: if a list is given, (step name, image) pairs of every image are appended to it.

    Returns:
        (B, 3, H / scale, W / scale) in [-1, 1], on the 8-bit grid.

    Raises:
        UserError: the size is not a multiple of the scale.
    """
    target = target_size(check_image(x), preset)
    if seeds is None:
        seeds = torch.randint(2**31, (len(x),), generator=generator).tolist()
    images = zip(x.split(1), seeds, strict=True)
    return torch.cat([_degrade_one(image, target, preset, Dice(seed), trace) for image, seed in images])


def target_size(x: Tensor, preset: Degradation) -> tuple[int, int]:
    """Height and width of what ``preset`` makes of (B, 3, H, W); UserError if they are not whole."""
    height, width = check_floats(x).shape[-2:]
    if height % preset.scale or width % preset.scale:
        raise UserError(f"image of {width} x {height} pixels: both must be multiples of {preset.scale}")
    return height // preset.scale, width // preset.scale


def _degrade_one(x: Tensor, target: tuple[int, int], preset: Degradation, dice: Dice, trace: list | None) -> Tensor:
    size = x.shape[-2:]

    def note(step: str, image: Tensor) -> Tensor:
        if trace is not None:
            trace.append((step, image))
        return image

    note("clean", x)
    if not preset.stages:
        x = note("bicubic", resize(x, target))
    for k, stage in enumerate(preset.stages):
        last = k == len(preset.stages) - 1
        if dice.chance(stage.blur.probability):
            x = note("blur", blur(x, draw_kernel(stage.blur, dice)))
        factor = _draw_factor(stage.resize, dice)
        # The second stage's factors count from the target size, as in Real-ESRGAN.
        base = target if last else size
        new = tuple(max(1, round(side * factor)) for side in base)
        if new != tuple(x.shape[-2:]):
            x = note("resize", resize(x, new, dice.choice(stage.resize.modes)).clamp(-1, 1))
        x = note("noise", draw_noise(x, stage.noise, dice))
        if last:
            x = _finish(x, stage, preset, target, dice, note)
        else:
            x = note("JPEG", jpeg(x, round(dice.uniform(stage.jpeg))))
    return from_uint8(to_uint8(x))


def _draw_factor(spec: Resize, dice: Dice) -> float:
    kind = dice.choice(("up", "down", "keep"), [spec.up, spec.down, spec.keep])
    if kind == "keep":
        return 1.0
    return dice.uniform((1.0, spec.range[1]) if kind == "up" else (spec.range[0], 1.0))


def _finish(x: Tensor, stage: Stage, preset: Degradation, target: tuple[int, int], dice: Dice, note) -> Tensor:
    """JPEG, and resizing to the target with the final sinc, in random order."""
    quality = round(dice.uniform(stage.jpeg))
    jpeg_first = dice.chance(0.5)
    if jpeg_first:
        x = note("JPEG", jpeg(x, quality))
    if tuple(x.shape[-2:]) != target:
        x = note("resize", resize(x, target, dice.choice(stage.resize.modes)).clamp(-1, 1))
    if dice.chance(preset.final_sinc):
        kernel = sinc_kernel(dice.choice(stage.blur.sizes), dice.uniform((math.pi / 3, math.pi)))
        x = note("sinc", blur(x, kernel).clamp(-1, 1))
    return x if jpeg_first else note("JPEG", jpeg(x, quality))
