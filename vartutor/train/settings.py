"""What a run can be told: the profile's settings, a YAML file over them, and single keys over both."""

import difflib
import inspect
import json
import re
import types
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from vartutor.data.presets import get_preset
from vartutor.errors import UserError, first_line
from vartutor.profiles import Profile, toy
from vartutor.train.loop import LoopConfig

STRATEGIES = ("ddp", "fsdp")
DRY_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every run can be told; keys of the inner parts are written with a dot, such as ``loop.lr``.

    Each kind of run adds its own. The comments beside the fields are what ``vartutor train KIND --help`` prints.
    """

    profile: Profile  # every size
    loop: LoopConfig  # how long and how fast
    seed: int = 0  # 0 to 9999
    batch: int = 16  # photos per step, over all processes
    accumulate: int = 1  # rounds of forward and backward per step, with the same result
    strategy: str = "ddp"  # ddp: every process holds all weights; fsdp: each a share
    bf16: bool = False  # the networks in bfloat16
    compile: tuple[str, ...] = ()  # parts that torch.compile makes faster, such as [transformer]
    cuda_graphs: bool = False  # compiled parts as CUDA graphs: for small models
    data: str = "photos"  # the course's; a folder of photos; or what `vartutor data prepare` made
    augment: bool = False  # turned and recoloured crops: more out of few photos
    degradation: str = "course"  # how the photos are damaged: course, varsr, bicubic
    workers: int = 2  # processes that read prepared photos, per training process
    tensorboard: bool = False  # beside log.csv
    images_every: int = 0  # steps between sample images; 0: never

    @classmethod
    def of(cls, profile: Profile, **changes: Any) -> "Settings":
        """A profile's; ``changes`` are keys such as ``seed``, and ``steps`` and others of the loop."""
        return with_changes(cls._of(profile), changes)

    @classmethod
    def _of(cls, profile: Profile) -> "Settings":
        raise NotImplementedError

    def dry(self, processes: int) -> "Settings":
        """The same run at toy size, on the course's photos: a few steps that pass through everything.

        The batch is the same for 1, 2 and 4 processes, so that such a run can go on with another number of them.
        """
        rounds = min(self.accumulate, 2)
        loop = replace(self.loop, steps=DRY_STEPS, seconds=0.0, save_every=2, log_every=1, validate_every=DRY_STEPS)
        sizes = {"profile": toy(self.profile), "loop": loop, "accumulate": rounds, "images_every": DRY_STEPS // 2}
        batch = rounds * (4 if 4 % processes == 0 else processes)
        return replace(self, **sizes, batch=batch, data="photos", workers=1, compile=(), tensorboard=False)

    def check(self, processes: int) -> None:
        """Whether the settings fit each other and the number of processes.

        Raises:
            UserError: they do not.
        """
        least = {"steps": 1, "seconds": 0, "log_every": 1, "save_every": 1, "validate_every": 0}
        for name, value in vars(self.loop).items():
            if value < least.get(name, 0) or (name in ("lr", "clip") and not value):
                raise UserError(f"loop.{name} {value:g}: give a larger number")
        if self.loop.warmup >= 1:
            raise UserError(f"loop.warmup {self.loop.warmup:g}: give a share below 1")
        if not 0 <= self.seed <= 9999:
            raise UserError(f"seed {self.seed}: give a whole number from 0 to 9999")
        if self.strategy not in STRATEGIES:
            raise UserError(f"strategy {self.strategy!r}: choose one of {', '.join(STRATEGIES)}")
        if self.accumulate < 1 or self.batch < 1 or self.batch % (processes * self.accumulate):
            raise UserError(
                f"batch {self.batch}: must be a multiple of {processes} processes × accumulate {self.accumulate}"
            )
        get_preset(self.degradation)

    def to_json(self) -> dict:
        """A dictionary of numbers, words and lists."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, entry: dict) -> "Settings":
        """Back from :meth:`to_json`.

        Raises:
            UserError: of another version of the program.
        """
        return _build(cls, entry, "the saved settings")


def with_changes(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Settings with some values replaced, those of the loop without its name before them."""
    inner = {f.name for f in fields(LoopConfig)}
    loop = {name: value for name, value in changes.items() if name in inner}
    rest = {name: value for name, value in changes.items() if name not in inner}
    return replace(settings, loop=replace(settings.loop, **loop), **rest)


def read_settings(start: Settings, file: Path | None = None, sets: list[str] | None = None) -> Settings:
    """Lay a YAML file and ``key=value`` words over ``start``, the words last.

    Raises:
        UserError: an unreadable file, an unknown key, or a value of the wrong kind; the line names it.
    """
    settings = start
    if file is not None:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{file}: not readable as YAML ({first_line(error)})") from None
        settings = _lay_over(settings, found or {}, str(file))
    told: dict[str, Any] = {}
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
        told = _joined(told, parsed)
    return _lay_over(settings, told, "--set")  # all at once: half of them may not fit each other


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """``key: old -> new`` for every setting that is not the same."""
    for name in (f.name for f in fields(before)):
        old, new = getattr(before, name), getattr(after, name)
        if is_dataclass(old):
            yield from differences(old, new, f"{path}{name}.")
        elif old != new:
            yield f"{path}{name}: {old} -> {new}"


def describe_settings(settings: Any, path: str = "") -> Iterator[str]:
    """``key=value`` of every setting but the profile's, and the comment beside its field."""
    notes = {}
    for kind in type(settings).__mro__[:-1]:
        notes |= dict(re.findall(r"^ +(\w+): [^#\n]+  # (.+)$", inspect.getsource(kind), re.MULTILINE))
    for field in fields(settings):
        value, name = getattr(settings, field.name), path + field.name
        if is_dataclass(value) and field.name != "profile":
            yield from describe_settings(value, f"{name}.")
        else:
            shown = f"{name}=…" if field.name == "profile" else f"{name}={json.dumps(value, ensure_ascii=False)}"
            yield f"  {shown:<34} {notes.get(field.name, '')}".rstrip()


def _joined(first: dict, second: dict) -> dict:
    """Both, key by key; the second one's values rule."""
    both = [key for key in second if isinstance(first.get(key), dict) and isinstance(second[key], dict)]
    return first | second | {key: _joined(first[key], second[key]) for key in both}


def _lay_over(settings: Any, found: Any, where: str, path: str = "") -> Any:
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
        if is_dataclass(old):
            changes[key] = _lay_over(old, value, where, f"{path}{key}.")
        else:
            changes[key] = _fit(value, kinds[key], f"{where}: {path}{key}")
    return replace(settings, **changes)


def _build(kind: type, entry: Any, where: str) -> Any:
    """A dataclass out of plain values."""
    kinds = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    lacking = [n for n, f in known.items() if n not in entry and f.default is MISSING and f.default_factory is MISSING]
    if lacking or set(entry) - known.keys():
        raise UserError(f"{where}: {', '.join([*lacking, *(set(entry) - known.keys())])}: of another version")
    values = {
        name: _build(kinds[name], value, where) if is_dataclass(kinds[name]) else _fit(value, kinds[name], where)
        for name, value in entry.items()
    }
    return kind(**values)


def _fit(value: Any, kind: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _fit(value, next(k for k in inner if k is not type(None)), where)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise UserError(f"{where} is {value!r}, not a list of {len(kinds)}")
        return tuple(_fit(item, own, where) for item, own in zip(value, kinds, strict=True))
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
    raise UserError(f"{where} is {value!r}, not {words.get(kind, 'a list')}")
