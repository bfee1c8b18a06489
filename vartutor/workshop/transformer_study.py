"""Short runs that compare transformers: the ablations of chapter 07, and one pass against three models.

All runs of a seed take the same number of steps and see the same photos, degraded alike; only what an entry names
differs from the course's recipe. The models are small, so that a run takes minutes. They are measured on the test
photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vartutor.data.pairs import Pairs
from vartutor.profiles import Profile, Recipe
from vartutor.tokenizer.build import first_groups, one_group
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.transformer.photo import PhotoTransformer, force, pair_features
from vartutor.weights import load_restorer
from vartutor.weights.files import checksum
from vartutor.workshop.scores import course_pairs
from vartutor.workshop.studies import Compare, Measured, choose, claim, collect, photo_rows, restored_rows, trained


@dataclass(frozen=True)
class TransformerRun:
    """What distinguishes one run from the course's."""

    recipe: dict[str, Any] = field(default_factory=dict)  # settings of the recipe
    wider: float = 1.0  # times the width and the heads
    deeper: float = 1.0  # times the depth
    prefix: bool = True
    added: bool = False
    only: int | None = None  # a model for this scale alone

    def recipe_from(self, profile: Profile) -> Recipe:
        """The recipe of this run, in the profile's size of a study."""
        width, depth, heads = profile.study_size
        size = {
            "width": round(width * self.wider),
            "heads": round(heads * self.wider),
            "depth": round(depth * self.deeper),
        }
        return replace(profile.transformer, **size, **self.recipe)


TRANSFORMER_RUNS = {
    "course": TransformerRun(),
    "no prefix": TransformerRun(prefix=False),
    "added": TransformerRun(added=True),
    "no prior": TransformerRun({"prior": False}),
    # As in the paper, but from nothing, and the prefix is of pixels: it starts from VAR, and its prefix is latents.
    "prefix alone": TransformerRun({"prior": False, "hard": 1.0, "soft": 0.0, "balance": 0.0, "slip": 0.0}),
    "hard": TransformerRun({"hard": 1.0, "soft": 0.0}),
    "tokens alike": TransformerRun({"balance": 0.0}),
    "no slips": TransformerRun({"slip": 0.0}),
    "learned positions": TransformerRun({"rope": False}),
    "narrow": TransformerRun(wider=0.5),
    "shallow": TransformerRun(deeper=0.5),
    "deep": TransformerRun(deeper=2.0),
    "only 1": TransformerRun(only=1),
    "only 2": TransformerRun(only=2),
    "only 4": TransformerRun(only=4),
}


def tokenizer_for(
    run: TransformerRun, tokenizer: HierarchicalTokenizer, plain: MultiScaleTokenizer
) -> HierarchicalTokenizer:
    """What a run is trained over.

    For a small scale alone, the first groups of the hierarchical tokenizer: any ladder needs such coarse maps. For the
    largest scale the plain one, whose ladder has as many tokens: none of its maps has to be a photo at ×1 or ×2, so
    the model says nothing on the account of those. (A model for ×2 alone restores ×1 too, by the way.)
    """
    if run.only is None:
        return tokenizer
    if run.only == max(tokenizer.scales):
        return one_group(plain, run.only)
    return first_groups(tokenizer, tokenizer.scales.index(run.only) + 1)


@torch.no_grad()
def forced_rows(
    model: PhotoTransformer, tokenizer: HierarchicalTokenizer, pairs: Pairs, per_photo: int, batch: int = 16
) -> list[Measured]:
    """Under teacher forcing: ``ce`` in nats by photo, ``ce by map``, and ``right by map``, the share of right tokens.

    Args:
        per_photo: crops of each photo.
    """
    entropies, hits = [], []
    for photo, clean in zip(pairs.lr.split(batch), pairs.hr[max(pairs.hr)].split(batch), strict=True):
        features, degraded = pair_features(tokenizer, photo, clean, model.first)
        targets, _, inputs, rests = force(tokenizer, features, degraded)
        logits = model.body(model.condition(photo, degraded), inputs, rests)
        entropies.append(F.cross_entropy(logits.transpose(1, 2), targets, reduction="none"))
        hits.append((logits.argmax(-1) == targets).float())
    entropy, right = torch.cat(entropies), torch.cat(hits)
    rows = photo_rows("ce", pairs.files, entropy.mean(1), per_photo)
    squares = [p * p for p in tokenizer.quantizer.patch_nums]
    for name, values in (("ce by map", entropy), ("right by map", right)):
        rows += [(name, str(k), part.mean().item()) for k, part in enumerate(values.split(squares, 1))]
    return rows


def run_transformer_study(
    names: Sequence[str],
    profile: Profile,
    tokenizer: HierarchicalTokenizer,
    plain: MultiScaleTokenizer,
    out: Path,
    *,
    steps: int,
    seeds: Sequence[int],
    compare: Compare,
) -> Path:
    """Train and measure every named transformer with every seed; see :func:`vartutor.workshop.studies.collect`.

    Args:
        tokenizer, plain: frozen; see :func:`tokenizer_for`.
        compare: see :func:`vartutor.workshop.studies.restored_rows`.

    Raises:
        UserError: an unknown run; ``out`` holds runs of other settings.
    """
    chosen, pairs = choose(names, TRANSFORMER_RUNS), course_pairs(profile)
    over = " and ".join(checksum(model) for model in (tokenizer, plain))
    claim(out / "transformers.txt", f"{steps} steps of {TransformerRun().recipe_from(profile)} over {over}")

    def work(name: str, seed: int, folder: Path) -> list[Measured]:
        run = TRANSFORMER_RUNS[name]
        own = tokenizer_for(run, tokenizer, plain)
        own_profile = replace(profile, transformer=run.recipe_from(profile))
        told = {"seed": seed, "steps": steps, "prefix": run.prefix, "added": run.added}
        _, costs = trained("transformer", own_profile, folder, {"tokenizer": own}, **told)
        restorer = load_restorer(folder)
        return [
            *restored_rows(restorer, pairs, profile.eval_crops, seed, compare),
            *forced_rows(restorer.model, own, pairs, profile.eval_crops),
            ("parameters", "", sum(p.numel() for p in restorer.model.parameters())),
            ("tokens", "", own.quantizer.tokens),
            *costs,
        ]

    return collect(chosen, seeds, out, work)
