"""Training runs of several sizes and lengths: what a larger model and a longer run buy, for chapter 10.

Every run has a schedule of its own, which ends with it. In the middle of a longer run the learning rate is still
high, and the loss would look worse than that many steps can make it (Hoffmann et al., 2022, section 3.1).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vartutor.data.pairs import eval_pairs
from vartutor.data.presets import COURSE
from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.transformer import Objective
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights import load_restorer
from vartutor.workshop.studies import Measured, choose, collect, trained
from vartutor.workshop.transformer_study import forced_rows

SIZES = {64: 2, 96: 3, 128: 4, 192: 6}  # width and depth, in the proportion of the course's model; a head has 32
LENGTHS = (1, 2, 4)  # in units of the shortest run


def name_runs(steps: int) -> dict[str, tuple[int, int]]:
    """Width and steps by the name of the run; ``steps`` are those of the shortest runs."""
    return {f"width {width}, {n * steps} steps": (width, n * steps) for n in LENGTHS for width in SIZES}


def resized(profile: Profile, width: int) -> Profile:
    """The profile with a transformer of this width."""
    recipe = replace(profile.transformer, width=width, depth=SIZES[width], heads=width // 32)
    return replace(profile, transformer=recipe)


def entropies(model: PhotoTransformer, tokenizer: HierarchicalTokenizer, profile: Profile) -> dict[str, float]:
    """Cross entropy of the true tokens of every validation photo in nats per token, teacher forcing, no slips."""
    crops = profile.eval_crops
    rows = forced_rows(model, tokenizer, eval_pairs(COURSE, "val", profile.image_size, crops), crops)
    return {file: value for what, file, value in rows if what == "ce"}


def run_scaling_study(
    names: Sequence[str],
    profile: Profile,
    tokenizer: HierarchicalTokenizer,
    out: Path,
    *,
    steps: int,
    seeds: Sequence[int],
) -> Path:
    """Train with the paper's loss, the cross entropy, and measure it; see :func:`vartutor.workshop.studies.collect`.

    Raises:
        UserError: an unknown run.
    """
    runs = name_runs(steps)

    def work(name: str, seed: int, folder: Path) -> list[Measured]:
        width, length = runs[name]
        own = resized(profile, width)
        told = {"seed": seed, "steps": length, "objective": Objective()}
        trainer, costs = trained("transformer", own, folder, {"tokenizer": tokenizer}, **told)
        photos = entropies(load_restorer(folder).model, tokenizer, own)
        return [
            *(("ce", file, ce) for file, ce in photos.items()),
            ("parameters", "", sum(p.numel() for p in trainer.model.parameters())),
            ("width", "", width),
            ("images", "", length * trainer.run.batch),
            *costs,
        ]

    return collect(choose(names, runs), seeds, out, work)
