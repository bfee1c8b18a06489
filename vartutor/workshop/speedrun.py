"""From a folder of photos to a published model, by one recipe: first a net that restores, then tokens that say more."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from vartutor.data.images import write_image
from vartutor.data.presets import COURSE
from vartutor.devices import find_device
from vartutor.errors import UserError, first_line
from vartutor.evaluate.choice import find_restorers
from vartutor.evaluate.photos import split_photos
from vartutor.evaluate.report import write_results
from vartutor.evaluate.restorers import Method, evaluate
from vartutor.paths import assets, commit, make_folder
from vartutor.profiles import Profile, get_profile, toy
from vartutor.train.kinds import KINDS, is_finished, saved_settings, train
from vartutor.train.options import differences, joined, lay_over
from vartutor.train.settings import Settings
from vartutor.weights.files import STATE
from vartutor.workshop.publish import publish

ORDER = ("baseline", "tokenizer", "transformer", "fidelity")  # in this order; each is a kind of run
LARGEST = 192  # pixels a side of the middles of the test photos
EXAMPLES = 4


@dataclass(frozen=True)
class Schedule:
    """A recipe as it is read: the profile, minutes of training in all, and each stage's share and settings."""

    profile: Profile
    minutes: float
    shares: dict[str, float]
    settings: dict[str, dict[str, Any]]

    def stage(self, kind: str, photos: str, out: Path) -> Settings:
        """What a stage is told; later ones name the folders of those that they stand on."""
        own = KINDS[kind].settings.of(self.profile, data=photos, seconds=60 * self.minutes * self.shares[kind])
        own = lay_over(own, self.settings[kind], f"stage {kind}")
        if kind == "transformer":
            return replace(own, tokenizer=str(out / "tokenizer"), restorer=str(out / "baseline"))
        return replace(own, model=str(out / "transformer")) if kind == "fidelity" else own


def read_schedule(recipe: str | Path) -> Schedule:
    """A recipe of ``assets/recipes`` by its name, or a YAML file of the same form.

    Raises:
        UserError: unreadable, or without one of the stages; shares that do not make 1.
    """
    path = Path(recipe) if str(recipe).endswith(".yaml") else assets() / "recipes" / f"{recipe}.yaml"
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        profile, minutes, common, stages = (told[key] for key in ("profile", "minutes", "all", "stages"))
        shares = {kind: float(stages[kind]["share"]) for kind in ORDER}
        told = {kind: joined(common, stages[kind]) for kind in ORDER}  # a stage's own settings rule
        settings = {kind: {key: own[key] for key in own if key != "share"} for kind, own in told.items()}
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a recipe: {first_line(error)}; assets/recipes shows the form") from None
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"{path}: the shares of the stages make {sum(shares.values()):g}, not 1")
    return Schedule(get_profile(profile), float(minutes), shares, settings)


def run_stage(kind: str, run: Settings, out: Path, **options) -> bool:
    """Train a stage, or go on with it; whether it is finished. One that was finished before is left alone.

    Args:
        **options: as for :func:`vartutor.train.kinds.train`.
    """
    begun = (out / STATE).exists()
    if begun and is_finished(out):
        print(f"{kind}: finished before, in {out}")
        return True
    print(f"{kind}:", flush=True)
    for line in differences(saved_settings(kind, out), run) if begun else ():
        print(f"from here on, {line}")
    return not train(kind, run, out, resume=begun, quiet=False, **options).timed_out


def judge_models(out: Path, device: str) -> list[Method]:
    """What is compared: bicubic, the net alone, and the model with mean codes and with drawn ones."""
    net, model = f"cnn:{out / 'baseline'}", f"model:{out / 'fidelity'}"
    ways = {"expected": True, "fidelities": (0.0, 1.0), "temperatures": (0.5,), "device": find_device(device)}
    found = [*find_restorers(["bicubic", net]), *find_restorers([model], **ways)]
    short = {net: "net alone", model: "model"}
    for long, name in short.items():
        found = [replace(method, name=method.name.replace(long, name)) for method in found]
    return found


def conclude(schedule: Schedule, out: Path, device: str) -> Path:
    """Measure on the middles of the test photos, draw a few of them, and publish; the folder of the results."""
    make_folder(results := out / "results")
    size = min(LARGEST, schedule.profile.image_size * 3 // 2)  # more than a tile, so that tiles are blended
    methods, photos = judge_models(out, device), split_photos(COURSE, largest=size)
    rows = list(evaluate(methods, photos))
    what = f"Middles of the {len(photos)} test photos, damaged as the course's are."
    columns = f"Columns of `samples.png`, at ×4: {', '.join([*(method.name for method in methods), 'clean'])}."
    origin = [f"Recipe {schedule.profile.name}, {schedule.minutes:g} minutes.", what, columns]
    write_results(results, rows, origin, "net alone")
    samples = [photos[i] for i in range(0, len(photos), len(photos) // EXAMPLES)][:EXAMPLES]
    strips = []
    for photo in samples:
        pictures = [method.run(photo.lr, 0)[4][0] for method in methods]
        strips.append(torch.cat([*pictures, photo.hr[4][0]], 2))
    width = min(strip.shape[-1] for strip in strips)
    write_image(results / "samples.png", torch.cat([strip[..., :width] for strip in strips], 1))
    for kind in ORDER:
        publish(out / kind, schedule.profile, out / "weights", schedule.profile.name)
    return results


def speedrun(
    recipe: str | Path,
    photos: str,
    out: Path,
    *,
    minutes: float = 0.0,
    max_hours: float = 0.0,
    device: str = "auto",
    dry: bool = False,
    words: Sequence[str] = (),
) -> bool:
    """All stages, then the judgement; whether all of it is done. What is finished is not done again.

    Args:
        photos: a folder of them, or ``photos``, the course's.
        minutes: of training, instead of the recipe's.
        max_hours: save and stop after this time, to go on with the same call; 0 never.
        dry: toy sizes and a few steps, on the course's photos.
        words: of the command, kept with the weights.

    Raises:
        UserError: a recipe that cannot be read, or no photos.
    """
    schedule, begin = read_schedule(recipe), time.monotonic()
    schedule = replace(schedule, minutes=minutes or schedule.minutes)
    origin = {"command": shlex.join(["vartutor", *words]), "commit": commit()}
    runs = {kind: schedule.stage(kind, photos, out) for kind in ORDER}  # all, before the first one begins
    for kind, run in runs.items():
        hours = max(1e-6, max_hours - (time.monotonic() - begin) / 3600) if max_hours else 0.0
        options = {"device": device, "max_hours": hours, "origin": origin}
        if not run_stage(kind, run.dry(1) if dry else run, out / kind, **options):
            return False
    conclude(replace(schedule, profile=toy(schedule.profile)) if dry else schedule, out, device)
    return True
