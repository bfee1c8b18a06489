"""Short fine-tuning runs that compare preferences: the figures of chapter 08.

All runs of a seed start from the same transformer, take the same number of steps and see the same batches; only what
is preferred, and how sharply, differs. They are measured on the test photos.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.checkpoint import checksum
from vartutor.train.evaluate import course_pairs
from vartutor.train.preference import Preference, judge_preference, train_preference
from vartutor.train.runs import Restorer
from vartutor.train.studies import Compare, Row, choose, claim, collect, restored_rows
from vartutor.train.transformer import Objective
from vartutor.transformer.photo import PhotoTransformer

# All photos have L tokens, so a sum with β is a mean with L β: with 437 tokens, 0.01 is 4.4, and 0.2 is 87.
RUNS = {
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
def measure(
    model: PhotoTransformer,
    start: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    profile: Profile,
    seed: int,
    compare: Compare,
) -> list[Row]:
    """Per photo: what is restored of it, see :func:`vartutor.train.studies.restored_rows`, and what it prefers."""
    pairs, crops = course_pairs(profile), profile.eval_crops
    rows = restored_rows(Restorer(model, tokenizer), pairs, crops, seed, compare)
    for name, values in judge_preference(model, start, tokenizer, pairs).items():
        if "/" in name:
            rows.append(("margin by scale", name.removeprefix("margin/"), values.mean().item()))
        else:
            means = values.view(-1, crops).mean(1).tolist()
            rows += [(name, *pair) for pair in zip(pairs.files[::crops], means, strict=True)]
    return rows


def run_preference_study(
    names: Sequence[str],
    profile: Profile,
    start: PhotoTransformer,
    tokenizer: HierarchicalTokenizer,
    objective: Objective,
    out: Path,
    *,
    steps: int,
    seeds: Sequence[int],
    compare: Compare,
) -> Path:
    """Fine-tune and measure as every named run says, with every seed; see :func:`vartutor.train.studies.collect`.

    The names of the runs end in ``, no prior`` for a start without one, so that one folder can hold both kinds.

    Args:
        start, tokenizer, objective: from :func:`vartutor.train.runs.find_start`.
        compare: see :func:`vartutor.train.studies.restored_rows`.

    Raises:
        UserError: an unknown run; ``out`` holds runs from another start, or of other steps.
    """
    end = "" if start.body.prior is not None else ", no prior"
    chosen = [name + end for name in choose(names, RUNS)]
    claim(out / f"start{end.replace(', ', ' ').replace(' ', '_')}.txt", f"{steps} steps from {checksum(start)}")

    def work(name: str, seed: int, folder: Path) -> list[Row]:
        preference = RUNS[name.removesuffix(end)]
        if preference is None:
            return measure(start, start, tokenizer, profile, seed, compare)
        trainer = train_preference(
            profile,
            start,
            tokenizer,
            folder,
            objective=objective,
            preference=preference,
            seed=seed,
            steps=steps,
            bf16=True,
            resume=(folder / "state.pt").is_file(),
        )
        rows = measure(trainer.averaged, start, tokenizer, profile, seed, compare)
        return [*rows, ("steps", "", trainer.step), ("seconds per step", "", trainer.seconds / trainer.step)]

    return collect(chosen, seeds, out, work)
