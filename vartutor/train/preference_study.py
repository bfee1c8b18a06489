"""Short fine-tuning runs that compare preferences: the figures of chapter 08.

All runs of a seed start from the same transformer, take the same number of steps and see the same batches; only what
is preferred, and how sharply, differs. They are measured on the test photos.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vartutor.data.pairs import eval_pairs
from vartutor.data.presets import COURSE
from vartutor.errors import UserError
from vartutor.paths import make_folder
from vartutor.profiles import Profile
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.train.checkpoint import checksum
from vartutor.train.evaluate import DECODES, restore_pairs
from vartutor.train.preference import Preference, judge_preference, train_preference
from vartutor.train.runs import Restorer
from vartutor.train.studies import Row, choose, collect
from vartutor.train.transformer import Objective
from vartutor.transformer.photo import PhotoTransformer

Measure = Callable[[Tensor, Tensor, int], dict[str, float]]

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
    compare: Measure,
) -> list[Row]:
    """Per photo: ``MEASURE SCALE WAY``, restored from sampled and from expected codes; and what it prefers."""
    pairs = eval_pairs(COURSE, "test", profile.image_size, profile.eval_crops)
    crops, rows = profile.eval_crops, []
    files = pairs.files[::crops]
    for way, options in DECODES.items():
        images = restore_pairs(Restorer(model, tokenizer), pairs, seed=seed, **options)
        for s, image in images.items():
            for file, ours, clean in zip(files, image.split(crops), pairs.hr[s].split(crops), strict=True):
                rows += [(f"{name} {s} {way}", file, value) for name, value in compare(ours, clean, s).items()]
    for name, values in judge_preference(model, start, tokenizer, pairs).items():
        if "/" in name:
            rows.append(("margin by scale", name.removeprefix("margin/"), values.mean().item()))
        else:
            rows += [(name, *pair) for pair in zip(files, values.view(-1, crops).mean(1).tolist(), strict=True)]
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
    compare: Measure,
) -> Path:
    """Fine-tune and measure as every named run says, with every seed; see :func:`vartutor.train.studies.collect`.

    The names of the runs end in ``, no prior`` for a start without one, so that one folder can hold both kinds.

    Args:
        start, tokenizer, objective: from :func:`vartutor.train.runs.find_start`.
        compare: what is measured of a photo, such as :func:`vartutor.evaluate.measures.measure`: called with its
            crops, the clean ones, and the scale.

    Raises:
        UserError: an unknown run; ``out`` holds runs from another start, or of other steps.
    """
    end = "" if start.body.prior is not None else ", no prior"
    chosen = [name + end for name in choose(names, RUNS)]
    _claim(out / f"start{end.replace(', ', ' ').replace(' ', '_')}.txt", start, steps)

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


def _claim(path: Path, start: PhotoTransformer, steps: int) -> None:
    """Only what began alike may be compared."""
    record = f"{steps} steps from {checksum(start)}\n"
    make_folder(path.parent)
    if path.is_file() and path.read_text(encoding="utf-8") != record:
        raise UserError(f"{path.parent}: holds runs of other steps, or from another transformer; choose another --out")
    path.write_text(record, encoding="utf-8")
