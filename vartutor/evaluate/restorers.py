"""What can be measured: bicubic, a classical denoiser, the convolutional net, and the transformer as it is asked."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vartutor.errors import UserError
from vartutor.evaluate.benchmarks import Sample
from vartutor.evaluate.measures import measure
from vartutor.evaluate.table import Row
from vartutor.superres import SuperResolver


@dataclass(frozen=True)
class Method:
    """A restorer as it is asked: ``run(lr, seed)``, (B, 3, h, w) in [-1, 1] -> {s: (B, 3, s h, s w)}.

    One that draws nothing ignores the seed.
    """

    name: str
    run: Callable[[Tensor, int], dict[int, Tensor]]
    draws: bool = False


def seedless(name: str, function: Callable[[Tensor], dict[int, Tensor]]) -> Method:
    """A baseline, such as a denoiser or ``net.restore``: (B, 3, h, w) -> {s: (B, 3, s h, s w)}."""
    return Method(name, lambda lr, seed: function(lr))


def of_model(resolver: SuperResolver, name: str, temperature: float = 1.0, draws: bool = False, **options) -> Method:
    """The transformer, asked in one way.

    Args:
        temperature: 0 is greedy.
        draws: whether it draws something even where no token is drawn.
        options: as for :meth:`SuperResolver.upscale`; if left out, codes are sampled, and fidelity is 0.
    """
    options = {"expected": False, "fidelity": 0.0, "temperature": temperature} | options

    def run(lr: Tensor, seed: int) -> dict[int, Tensor]:
        # Photos of equal size are cut alike, and must not draw alike.
        own = [zlib.crc32(x.contiguous().numpy().tobytes(), seed) for x in lr]
        images = [
            resolver.upscale(x, resolver.tokenizer.scales, seed=s, **options) for x, s in zip(lr, own, strict=True)
        ]
        return {s: torch.stack([image[s] for image in images]) for s in resolver.tokenizer.scales}

    return Method(name, run, draws=draws or (temperature > 0 and not options.get("expected", False)))


def judge(photo: Sample, name: str, images: dict[int, Tensor], seed: int = 0) -> Iterator[Row]:
    """All measures of what became of a photo, {s: (B, 3, s h, s w)}, at every scale that is there."""
    for s, image in images.items():
        try:
            measured = measure(image, photo.hr[s], s)
        except UserError as error:
            raise UserError(f"{name}, {photo.name}, ×{s}: {error}") from None
        for title, value in measured.items():
            yield Row(name, seed, photo.name, str(s), title, value)


def evaluate(
    restorers: Sequence[Method],
    photos: Iterable[Sample],
    seeds: Sequence[int] = (0,),
    judges: Sequence[Callable[..., Iterator[Row]]] = (judge,),
) -> Iterator[Row]:
    """Judge every restorer on every photo; those that draw, once per seed.

    Args:
        judges: called as :func:`judge` is.

    Raises:
        UserError: two restorers of the same name.
    """
    names = [restorer.name for restorer in restorers]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"restorer {twice.pop()!r} is named twice")
    for photo in photos:
        for restorer in restorers:
            for seed in seeds if restorer.draws else (0,):
                images = restorer.run(photo.lr, seed)
                for each in judges:
                    yield from each(photo, restorer.name, images, seed)
