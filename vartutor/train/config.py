"""Settings of a full run: the profile's, a YAML file over them, and single keys over both."""

import difflib
import types
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from vartutor.errors import UserError, first_line
from vartutor.profiles import Profile, toy
from vartutor.train.loop import LoopConfig
from vartutor.train.preference import Preference
from vartutor.train.tokenizer import Losses
from vartutor.train.transformer import Objective

STRATEGIES = ("ddp", "fsdp")
DRY_STEPS = 6


@dataclass(frozen=True)
class RunConfig:
    """Everything that a full run can be told; keys of the inner parts are written with a dot, such as ``loop.lr``."""

    profile: Profile
    loop: LoopConfig
    losses: Losses = field(default_factory=Losses)  # of a tokenizer
    objective: Objective = field(default_factory=Objective)  # of a transformer
    preference: Preference = field(default_factory=Preference)  # of fine-tuning one
    batch: int = 1  # images per step, over all processes
    accumulate: int = 1  # rounds of forward and backward per step
    strategy: str = "ddp"  # ddp: every process holds all weights; fsdp: each a share
    bf16: bool = False
    compile: bool = False
    max_hours: float = 0.0  # stop cleanly after this time; 0 never
    tensorboard: bool = False  # beside log.csv
    images_every: int = 0  # steps between sample images; 0 never
    data: str = "photos"  # the course's, or the folder that `vartutor data prepare` made
    workers: int = 2  # processes that read shards and degrade, per training process
    degradation: str = "varsr"  # or course, bicubic

    @classmethod
    def of(cls, what: str, profile: Profile) -> "RunConfig":
        """The profile's settings for a ``tokenizer``, a ``transformer`` or a ``preference``."""
        recipe, batch = profile.transformer, profile.batch_of(what)
        if what == "tokenizer":
            return cls(profile, LoopConfig(profile.tokenizer_steps, profile.tokenizer_lr), batch=batch)
        loop = LoopConfig(recipe.steps, recipe.lr, weight_decay=0.05)
        if what == "preference":
            loop = replace(loop, steps=recipe.preference_steps, lr=recipe.preference_lr, log_every=10)
        return cls(profile, loop, objective=Objective.of(recipe), batch=batch)

    def dry(self, processes: int) -> "RunConfig":
        """The same run at toy size, on the course's photos: a few steps that pass through everything.

        The batch is the same for 1, 2 and 4 processes, so that such a run can go on with another number of them.
        """
        rounds = min(self.accumulate, 2)
        loop = replace(self.loop, steps=DRY_STEPS, save_every=2, log_every=1)
        sizes = {"profile": toy(self.profile), "loop": loop, "accumulate": rounds, "images_every": DRY_STEPS // 2}
        batch = rounds * (4 if 4 % processes == 0 else processes)
        return replace(self, **sizes, batch=batch, data="photos", workers=1, compile=False, tensorboard=False)

    def check(self, processes: int) -> None:
        """Whether the settings fit each other and the number of processes.

        Raises:
            UserError: they do not.
        """
        if self.strategy not in STRATEGIES:
            raise UserError(f"strategy {self.strategy!r}: choose one of {', '.join(STRATEGIES)}")
        if self.accumulate < 1 or self.batch < 1 or self.batch % (processes * self.accumulate):
            raise UserError(
                f"batch {self.batch}: must be a multiple of {processes} processes × accumulate {self.accumulate}"
            )


def read_config(start: RunConfig, file: Path | None = None, sets: list[str] | None = None) -> RunConfig:
    """Lay a YAML file and ``key=value`` settings over ``start``, the settings last.

    Raises:
        UserError: an unreadable file, an unknown key, or a value of the wrong kind; the line names it.
    """
    import yaml

    config = start
    if file is not None:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{file}: not readable as YAML ({first_line(error)})") from None
        config = _lay_over(config, found or {}, str(file))
    for word in sets or []:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--set {word}: write KEY=VALUE, such as loop.lr=0.001")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {word}: not readable as YAML ({first_line(error)})") from None
        for part in reversed(key.split(".")):
            parsed = {part: parsed}
        config = _lay_over(config, parsed, f"--set {word}")
    return config


def _lay_over(settings: Any, found: Any, where: str) -> Any:
    if not isinstance(found, dict):
        raise UserError(f"{where}: {found!r} stands where keys are expected")
    kinds, names = get_type_hints(type(settings)), [f.name for f in fields(settings)]
    changes = {}
    for key, value in found.items():
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"; did you mean {near[0]}?" if near else f": choose from {', '.join(names)}"
            raise UserError(f"{where}: unknown key {key!r}{hint}")
        old = getattr(settings, key)
        changes[key] = _lay_over(old, value, where) if is_dataclass(old) else _fit(value, kinds[key], f"{where}: {key}")
    return replace(settings, **changes)


def _fit(value: Any, kind: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _fit(value, next(k for k in inner if k is not type(None)), where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_fit(item, inner[0], where) for item in value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and not isinstance(value, bool):
        try:  # YAML takes 1e-3, without a point, for a word
            number = float(value)
            if kind is float or number == int(number):
                return kind(number)
        except (TypeError, ValueError, OverflowError):
            pass
    if kind is str and isinstance(value, str):
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    raise UserError(f"{where} is {value!r}, not {words.get(kind, 'a list of whole numbers')}")
