"""Short runs that compare tokenizers: the ladders, and the claims and ablations of chapters 04 and 05.

Every run has the profile's sizes and the same number of steps; only what its entry names differs. Ladders are
compared on the validation photos, since one of them is chosen; the rest on the test photos.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import torch

from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.pairs import pyramid
from vartutor.data.photos import load_pixels
from vartutor.errors import UserError
from vartutor.metrics import psnr
from vartutor.profiles import Profile
from vartutor.tokenizer.build import Groups
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer, decode_small
from vartutor.train.tokenizer import Losses
from vartutor.weights import load_tokenizer
from vartutor.workshop.studies import Measured, choose, collect, photo_rows, trained


@dataclass(frozen=True)
class TokenizerRun:
    """What distinguishes one run; an empty ladder is the profile's."""

    ladder: str = "hit"
    groups: str = ""
    overlap: bool = True
    bridge: int | None = None
    losses: Losses = field(default_factory=Losses)
    split: str = "test"


TOKENIZER_RUNS = {
    "hit": TokenizerRun(),
    "var": TokenizerRun("var"),
    "alone": TokenizerRun(groups="1,2,4,4,4 | 1,2,4,4,4,8,8 | 1,2,4,4,4,8,8,16", overlap=False),
    "no bridge": TokenizerRun(bridge=0),
    "one more scale": TokenizerRun(groups="1,2,4,4,4 | 8,8 | 16,16"),
    "no revival": TokenizerRun("var", losses=Losses(revive_every=0)),
    "votes by token": TokenizerRun("var", losses=Losses(votes="token")),
    **{
        f"ladder {groups}": TokenizerRun(groups=groups, split="val")
        for groups in (
            "1,2,4 | 8 | 16",
            "1,2,4,4,4 | 8,8 | 16",
            "1,2,4,4,4,4 | 8,8 | 16",
            "1,2,4,4,4,4,4,4 | 8,8 | 16",
            "1,2,3,4 | 5,6,8 | 10,13,16",
            "1,2,4,4,4,4 | 8,8,8 | 16,16",
        )
    },
}


@torch.no_grad()
def measure_tokenizer(model: MultiScaleTokenizer, profile: Profile, split: str) -> Iterator[Measured]:
    """(measure, item, value): ``psnr S`` of every photo in dB, ``used`` and ``perplexity`` of every scale."""
    x, files = eval_crops(split, profile.image_size, profile.eval_crops)
    target, indices = pyramid(x, profile.scales), model.tokenize(x)
    if isinstance(model, HierarchicalTokenizer):
        images = {f"psnr {s}": (image, target[s]) for s, image in model.decode_scales(indices).items()}
    else:
        latents, largest = model.latents(indices), max(profile.scales)
        images = {f"psnr {largest}": (model.decode(latents[-1]), x)}
        ends = accumulate(map(len, profile.groups[:-1]))
        for s, end in zip(profile.scales, ends, strict=False):
            size = profile.image_size * s // largest
            for way, image in decode_small(model, latents[end - 1], size, profile.image_size).items():
                images[f"psnr {s} {way}"] = image, target[s]
    for name, (image, clean) in images.items():
        yield from photo_rows(name, files, psnr(image, clean, color="rgb"), profile.eval_crops)
    yield from _codes(model, profile)


def _codes(model: MultiScaleTokenizer, profile: Profile) -> Iterator[Measured]:
    crops = RandomCrops(load_pixels("train"), profile.image_size, 16, seed=1)
    seen = [torch.cat(maps) for maps in zip(*(model.tokenize(crops.batch()) for _ in range(64)), strict=True)]
    yield "used", "all", len(torch.cat([idx.flatten() for idx in seen]).unique())
    yield "tokens", "all", model.quantizer.tokens
    for k, idx in enumerate(seen):
        yield "used", str(k), len(idx.unique())
    groups = getattr(model.quantizer, "groups", ())
    if len(groups) > 1 and not model.quantizer.overlap:  # the same map, made from the smallest and the largest image
        last = sum(map(len, groups[:-1]))
        for k, side in enumerate(groups[0]):
            yield "agreement", f"{k}: {side}", (seen[k] == seen[last + k]).float().mean().item()


def parse_groups(text: str) -> Groups:
    """``"1,2,4 | 8 | 16"`` -> ((1, 2, 4), (8,), (16,)).

    Raises:
        UserError: anything but whole numbers from 1 on, commas and bars.
    """
    try:
        groups = tuple(tuple(int(side) for side in group.split(",")) for group in text.split("|"))
    except ValueError:
        groups = ()
    if not groups or min(side for group in groups for side in group) < 1:
        raise UserError(f"ladder {text!r}: write it like '1,2,4 | 8 | 16'")
    return groups


def run_tokenizer_study(names: Sequence[str], profile: Profile, out: Path, *, steps: int, seeds: Sequence[int]) -> Path:
    """Train and measure every named tokenizer with every seed; see :func:`vartutor.workshop.studies.collect`."""

    def work(name: str, seed: int, folder: Path) -> list[Measured]:
        run = TOKENIZER_RUNS[name]
        groups = parse_groups(run.groups) if run.groups else profile.groups
        own = replace(profile, groups=groups, bridge=profile.bridge if run.bridge is None else run.bridge)
        shape = {"ladder": run.ladder, "overlap": run.overlap, "losses": run.losses}
        _, costs = trained("tokenizer", own, folder, seed=seed, steps=steps, **shape)
        return [*measure_tokenizer(load_tokenizer(folder), own, run.split), *costs]

    return collect(choose(names, TOKENIZER_RUNS), seeds, out, work)
