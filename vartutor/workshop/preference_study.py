"""Short fine-tuning runs that compare preferences: the figures of chapter 08.

All runs of a seed start from the same transformer, take the same number of steps and see the same batches; only what
is preferred, and how sharply, differs. They are measured on the test photos.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.preference import Preference, judge_preference
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights import Restorer, load_restorer
from vartutor.weights.files import checksum
from vartutor.workshop.scores import course_pairs
from vartutor.workshop.studies import Compare, Measured, choose, claim, collect, photo_rows, restored_rows, trained

# All photos have L tokens, so a sum with β is a mean with L β: with 437 tokens, 0.01 is 4.4, and 0.2 is 87.
PREFERENCE_RUNS = {
    "start": None,
    "ce": Preference(lam=0.0),
    "mean": Preference(),
    "sum": Preference(beta=0.01, total=True),
    "reference": Preference(reference=True),
    "beta 0.02": Preference(beta=0.02),  # with mean and the next three, a sweep of five
    "beta 2": Preference(beta=2.0),
    "beta 20": Preference(beta=20.0),
    "sum 0.2": Preference(total=True),  # the paper's β, if its log-likelihoods are sums
}


@torch.no_grad()
def measure_preference(
    model: PhotoTransformer,
    start: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    profile: Profile,
    seed: int,
    compare: Compare,
) -> list[Measured]:
    """Per photo: what is restored of it, see :func:`vartutor.workshop.studies.restored_rows`, and what it prefers."""
    pairs, crops = course_pairs(profile), profile.eval_crops
    rows = restored_rows(Restorer(model, tokenizer), pairs, crops, seed, compare)
    for name, values in judge_preference(model, start, tokenizer, pairs).items():
        if "/" in name:
            rows.append(("margin by scale", name.removeprefix("margin/"), values.mean().item()))
        else:
            rows += photo_rows(name, pairs.files, values, crops)
    return rows


def run_preference_study(
    names: Sequence[str],
    profile: Profile,
    start: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    objective: dict,
    out: Path,
    *,
    steps: int,
    seeds: Sequence[int],
    compare: Compare,
) -> Path:
    """Fine-tune and measure as every named run says, with every seed; see :func:`vartutor.workshop.studies.collect`.

    The names of the runs end in ``, no prior`` for a start without one, so that one folder can hold both kinds.

    Args:
        start, tokenizer, objective: from :func:`vartutor.weights.load_start`.
        compare: see :func:`vartutor.workshop.studies.restored_rows`.

    Raises:
        UserError: an unknown run; ``out`` holds runs from another start, or of other steps.
    """
    end = "" if start.body.prior is not None else ", no prior"
    chosen = [name + end for name in choose(names, PREFERENCE_RUNS)]
    claim(out / f"start{end.replace(', ', ' ').replace(' ', '_')}.txt", f"{steps} steps from {checksum(start)}")

    def work(name: str, seed: int, folder: Path) -> list[Measured]:
        preference = PREFERENCE_RUNS[name.removesuffix(end)]
        if preference is None:
            return measure_preference(start, start, tokenizer, profile, seed, compare)
        given, told = {"start": (start, tokenizer, objective)}, {"seed": seed, "steps": steps}
        _, costs = trained("preference", profile, folder, given, preference=preference, **told)
        model = load_restorer(folder).model
        return [*measure_preference(model, start, tokenizer, profile, seed, compare), *costs]

    return collect(chosen, seeds, out, work)
