"""The damage of :mod:`vartutor.data.degradation` to a whole batch at once, on the batch's device.

Every setting has the distribution it has there, but is a function of the photo's own seed: what becomes of a photo
does not depend on the batch it is in. Images whose drawn sizes differ share a canvas (:mod:`vartutor.data.resample`),
whose size follows from the preset: nothing here waits for the device. Call it outside of autocast.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.data.degradation import Blur, Degradation, Noise, Resize, target_size
from vartutor.data.draws import BatchDice, constant, normal_at, uniform_at
from vartutor.data.images import check_image, from_uint8, to_uint8
from vartutor.data.jpeg import jpeg_each
from vartutor.data.kernels import gaussian_kernel, motion_kernel, plateau_kernel, sinc_kernel
from vartutor.data.resample import MODES, Sizes, resize_each


@torch.no_grad()
def damage(x: Tensor, preset: Degradation, seeds: Tensor) -> Tensor:
    """Degrade clean photos to ``1 / preset.scale`` of their size.

    Args:
        x: (B, 3, H, W) in [-1, 1], with H and W multiples of ``preset.scale``.
        preset: what to draw.
        seeds: one per photo, (B,) int64, such as those of :func:`vartutor.data.draws.photo_seeds`.

    Returns:
        (B, 3, H / scale, W / scale) in [-1, 1], on the 8-bit grid.

    Raises:
        UserError: the size is not a multiple of the scale.
    """
    full, target = tuple(x.shape[-2:]), target_size(check_image(x), preset)
    seeds = seeds.to(x.device, non_blocking=True)
    size, end = (tuple(torch.full_like(seeds, side) for side in sides) for sides in (full, target))
    if not preset.stages:
        x = resize_each(x, size, end, target)
    for k, stage in enumerate(preset.stages):
        last = k == len(preset.stages) - 1
        dice = BatchDice(seeds, 1 + 2 * k)
        x = blur_each(x, size, *draw_kernels(stage.blur, dice))
        # The second stage's factors count from the target size, as in Real-ESRGAN.
        new, canvas = draw_sizes(stage.resize, target if last else full, dice)
        x, size = resize_each(x, size, new, canvas, _draw_mode(stage.resize.modes, dice)), new
        x = noise_each(x, size, stage.noise, dice, seeds, 2 + 2 * k)
        quality = dice.uniform(stage.jpeg).round().flatten()
        if not last:
            x = jpeg_each(x, quality)
            continue
        # JPEG, and resizing to the target with the final sinc, in random order.
        jpeg_first = dice.chance(0.5)
        x = torch.where(jpeg_first, jpeg_each(x, quality), x)
        x = resize_each(x, size, end, target, _draw_mode(stage.resize.modes, dice))
        if preset.final_sinc:
            length = torch.where(dice.chance(preset.final_sinc), dice.choice(stage.blur.sizes), 1)
            kernels = sinc_kernel(max(stage.blur.sizes), dice.uniform((math.pi / 3, math.pi)))
            x = blur_each(x, end, _cut(kernels, length), length).clamp(-1, 1)
        x = torch.where(jpeg_first, x, jpeg_each(x, quality))
    return from_uint8(to_uint8(x))


# --- blur ------------------------------------------------------------------------------------------


def draw_kernels(spec: Blur, dice: BatchDice) -> tuple[Tensor, Tensor]:
    """Kernels (B, 1, k, k) as ``spec`` says, with zeros around the smaller ones, and their sizes (B, 1, 1, 1).

    A photo that is not to be blurred gets a kernel of size 1.
    """
    n, size = max(spec.sizes), dice.choice(spec.sizes)
    families, isotropic, weights = zip(*spec.kinds, strict=True)
    kind = dice.choice(range(len(families)), weights)
    circular = constant(isotropic, kind.device)[kind]
    sigma_x = dice.uniform(spec.sigma)
    sigma_y = torch.where(circular, sigma_x, dice.uniform(spec.sigma))
    theta = torch.where(circular, 0.0, dice.uniform((-math.pi, math.pi)))

    def beta(bounds: tuple[float, float]) -> Tensor:
        return torch.where(dice.chance(0.5), dice.uniform((bounds[0], 1.0)), dice.uniform((1.0, bounds[1])))

    make = {
        "gaussian": lambda: gaussian_kernel(n, sigma_x, sigma_y, theta),
        "generalized": lambda: gaussian_kernel(n, sigma_x, sigma_y, theta, beta(spec.beta_gaussian)),
        "plateau": lambda: plateau_kernel(n, sigma_x, sigma_y, theta, beta(spec.beta_plateau)),
        "motion": lambda: motion_kernel(n, dice.uniform(spec.length), dice.uniform((0, math.pi))),
    }
    kernels = torch.zeros((), device=kind.device)
    for family in dict.fromkeys(families):
        chosen = constant(tuple(name == family for name in families), kind.device)[kind]
        kernels = torch.where(chosen, make[family](), kernels)
    if spec.sinc:
        lowest = torch.where(size < 13, math.pi / 3, math.pi / 5)  # small kernels cannot hold low frequencies
        kernels = torch.where(dice.chance(spec.sinc), sinc_kernel(n, dice.uniform((lowest, math.pi))), kernels)
    size = torch.where(dice.chance(spec.probability), size, 1)
    return _cut(kernels, size), size


def _cut(kernels: Tensor, size: Tensor) -> Tensor:
    """Kernels (B, 1, k, k) -> their middles of ``size`` (B, 1, 1, 1), which sum to 1, and zeros around them."""
    k = kernels.shape[-1]
    inside = (torch.arange(k, device=kernels.device) - k // 2).abs() <= size // 2
    kernels = kernels * (inside & inside.mT)
    return kernels / kernels.sum((-2, -1), keepdim=True)


def blur_each(x: Tensor, size: Sizes, kernels: Tensor, lengths: Tensor) -> Tensor:
    """Filter images of ``size`` on (B, 3, H, W) with a kernel (B, 1, k, k) each, as ``degradation.blur`` does.

    Borders are mirrored, or repeated where an image is too small for its kernel's side (B, 1, 1, 1) in ``lengths``.
    """
    pad = kernels.shape[-1] // 2
    mirrored = lengths.flatten()[:, None] // 2 < torch.minimum(*size)[:, None]
    places = []
    for n, length in zip(size, x.shape[-2:], strict=True):
        end, i = n[:, None] - 1, torch.arange(-pad, length + pad, device=x.device)
        i = torch.where(mirrored, end - (end - i.abs()).abs(), i)
        places.append(torch.minimum(i.clamp(min=0), end))
    rows, columns = places
    place = (rows[:, :, None] * x.shape[-1] + columns[:, None]).flatten(1)
    padded = x.flatten(2).gather(2, place[:, None].expand(-1, 3, -1)).view(1, -1, rows.shape[1], columns.shape[1])
    weight = kernels.expand(-1, 3, -1, -1).flatten(0, 1)[:, None]
    return F.conv2d(padded, weight, groups=len(weight)).view_as(x)


# --- size ------------------------------------------------------------------------------------------


def draw_sizes(spec: Resize, base: tuple[int, int], dice: BatchDice) -> tuple[Sizes, tuple[int, int]]:
    """Sizes as ``spec`` says, counted from ``base``, and that of a canvas for them all."""
    low, high = spec.range
    kind = dice.choice((1, -1, 0), (spec.up, spec.down, spec.keep))
    grown, shrunk = dice.uniform((1.0, high)), dice.uniform((low, 1.0))
    factor = torch.where(kind > 0, grown, torch.where(kind < 0, shrunk, 1.0)).flatten()
    canvas = tuple(max(1, round(side * (high if spec.up else 1.0))) for side in base)
    new = tuple((side * factor).round().long().clamp(1, most) for side, most in zip(base, canvas, strict=True))
    return new, canvas


def _draw_mode(modes: tuple[str, ...], dice: BatchDice) -> Tensor:
    return dice.choice([MODES.index(mode) for mode in modes]).flatten()


# --- noise -----------------------------------------------------------------------------------------


def noise_each(x: Tensor, size: Sizes, spec: Noise, dice: BatchDice, seeds: Tensor, stream: int) -> Tensor:
    """Add the noise that ``spec`` and the dice decide on to images of ``size`` on (B, 3, H, W)."""
    add, gray = dice.chance(spec.probability), dice.chance(spec.gray)
    # Numbers belong to pixels. Beyond an image its border goes on with the same, as JPEG wants it.
    rows, columns = (
        torch.minimum(torch.arange(length, device=x.device), n[:, None] - 1)
        for n, length in zip(size, x.shape[-2:], strict=True)
    )
    pixels = (rows[:, :, None] * x.shape[-1] + columns[:, None])[:, None] * 3  # (B, 1, H, W)
    colors = torch.arange(3, device=x.device).view(3, 1, 1)
    if spec.kind == "impulse":
        share, u = dice.uniform(spec.amount) * add, uniform_at(seeds, pixels, stream)
        x = torch.where(u < share, (u < share / 2) * 2.0 - 1, x)
    elif spec.kind == "speckle":
        x = (x + 1) * (1 + dice.uniform(spec.amount) * add * normal_at(seeds, pixels + colors, stream)) - 1
    else:
        z, gaussian = normal_at(seeds, pixels + colors * ~gray, stream), dice.chance(spec.gaussian)
        sigma, scale = dice.uniform(spec.sigma) / 127.5, 2 * dice.uniform(spec.poisson)
        shot = _shot_noise(x, gray, z).mul_(scale * (add & ~gaussian))
        x = z.mul_(sigma * (add & gaussian)).add_(shot).add_(x)
    return x.clamp_(-1, 1)


def _shot_noise(x: Tensor, gray: Tensor, z: Tensor) -> Tensor:
    """What the count of photons adds to the light, in 0..1, as in ``degradation.poisson_noise``."""
    color, brightness = torch.eye(3, device=x.device), constant((0.299, 0.587, 0.114), x.device)
    clean = (x + 1).mul_(127.5).round_().clamp_(0, 255).flatten(2)
    clean = (torch.where(gray[:, 0], brightness, color) @ clean).round_().view_as(x)
    levels = torch.zeros(len(x), 256, device=x.device).scatter_(1, clean.flatten(1).long(), 1.0).sum(1, keepdim=True)
    powers = constant(tuple(2.0**k for k in range(1, 9)), x.device)
    photons = powers[(levels > powers[:-1]).sum(1)].view(-1, 1, 1, 1)
    mean = clean.mul_(photons / 255)
    return (poisson(mean, z) - mean).div_(photons)


def poisson(mean: Tensor, z: Tensor) -> Tensor:
    """Poisson numbers (B, 3, H, W) made of standard normal ones ``z``; at most one in 40 is off by one.

    By the inverse of the distribution function: from a mean of ½ on Giles' expansion of it (2016, algorithm 955, to the
    order of the mean's inverse root), below it the function itself, up to 3.
    """
    large, small = mean.clamp(min=0.5), mean.clamp(max=0.5)
    root = large.sqrt()
    # λ + √λ z + (2 + z²) / 6 - z (2 + z²) / (72 √λ)
    many = (z / root).div_(-72).add_(1 / 6).mul_((z * z).add_(2))
    many.add_(root.mul_(z)).add_(large).floor_().clamp_(min=0)
    share = (z * 0.5**0.5).erf_().mul_(0.5).add_(0.5).clamp_(max=1 - 2**-24)
    term = torch.exp(-small)
    below, few = term.clone(), (share / term).floor_()  # quotients are less than 2: 1 where the share is reached
    for k in (1, 2):
        below.add_(term.mul_(small).div_(k))
        few.add_((share / below).floor_())
    return few.lerp_(many, large.copy_(mean).mul_(2).floor_().clamp_(max=1))
