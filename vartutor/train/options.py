"""Settings as text: dataclasses out of YAML files, of single words and of saved states, and back."""

import difflib
import inspect
import json
import math
import re
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from reprlib import repr as shown  # a few words can stand for a list without end
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from vartutor.errors import UserError, first_line

Told = TypeVar("Told")  # a dataclass of settings
NO_YAML = (yaml.YAMLError, ValueError, RecursionError)  # such as the 99th of a month, and what never ends


def read_settings(start: Told, file: Path | None = None, sets: list[str] | None = None) -> Told:
    """Lay a YAML file and ``key=value`` words over ``start``, the words last.

    Raises:
        UserError: an unreadable file, an unknown key, or a value of the wrong kind; the line names it.
    """
    settings = start
    if file is not None:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (*NO_YAML, OSError) as error:
            raise UserError(f"{file}: not readable as YAML ({first_line(error)})") from None
        settings = lay_over(settings, found or {}, str(file))
    told: dict[str, Any] = {}
    for word in sets or []:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--set {word}: write KEY=VALUE, such as loop.lr=0.001")
        try:
            parsed = yaml.safe_load(value)
        except NO_YAML as error:
            raise UserError(f"--set {word}: not readable as YAML ({first_line(error)})") from None
        for part in reversed(key.split(".")):
            parsed = {part: parsed}
        told = joined(told, parsed)
    return lay_over(settings, told, "--set")  # all at once: half of them may not fit each other


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
            pair = f"{name}=…" if field.name == "profile" else f"{name}={json.dumps(value, ensure_ascii=False)}"
            yield f"  {pair:<34} {notes.get(field.name, '')}".rstrip()


def joined(first: dict, second: dict) -> dict:
    """Both, key by key; the second one's values rule."""
    both = [key for key in second if isinstance(first.get(key), dict) and isinstance(second[key], dict)]
    return first | second | {key: joined(first[key], second[key]) for key in both}


def lay_over(settings: Any, found: Any, where: str, path: str = "") -> Any:
    """Settings with the values of a dictionary, those of inner settings in inner dictionaries.

    Raises:
        UserError: an unknown key, or a value of the wrong kind; ``where`` begins the line.
    """
    if not isinstance(found, dict):
        raise UserError(f"{where}: {shown(found)} stands where keys are expected")
    kinds, names = get_type_hints(type(settings)), [f.name for f in fields(settings)]
    changes = {}
    for key, value in found.items():
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"; did you mean {near[0]}?" if near else f": choose from {', '.join(names)}"
            raise UserError(f"{where}: unknown key {shown(key)}{hint}")
        old = getattr(settings, key)
        if is_dataclass(old):
            changes[key] = lay_over(old, value, where, f"{path}{key}.")
        else:
            changes[key] = _fit(value, kinds[key], f"{where}: {path}{key}")
    return replace(settings, **changes)


def from_plain(kind: type, entry: Any, where: str) -> Any:
    """A dataclass out of plain values.

    Raises:
        UserError: unknown or missing keys, or values of the wrong kind; ``where`` begins the line.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{where}: {shown(entry)} stands where keys are expected")
    kinds = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    lacking = [n for n, f in known.items() if n not in entry and f.default is MISSING and f.default_factory is MISSING]
    if lacking or set(entry) - known.keys():
        raise UserError(f"{where}: {', '.join([*lacking, *(set(entry) - known.keys())])}: of another version")
    values = {
        name: from_plain(kinds[name], value, where) if is_dataclass(kinds[name]) else _fit(value, kinds[name], where)
        for name, value in entry.items()
    }
    return kind(**values)


def _fit(value: Any, kind: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        words = [word for k in inner if get_origin(k) is Literal for word in get_args(k)]
        return value if value is None or value in words else _fit(value, inner[0], where)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise UserError(f"{where} is {shown(value)}, not a list of {len(kinds)}")
        return tuple(_fit(item, own, where) for item, own in zip(value, kinds, strict=True))
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and not isinstance(value, bool):
        try:  # YAML takes 1e-3, without a point, for a word
            number = float(value)
            if math.isfinite(number) and (kind is float or number == int(number)):
                return kind(number)
        except (TypeError, ValueError, OverflowError):
            pass
    if kind is str and isinstance(value, str):
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    raise UserError(f"{where} is {shown(value)}, not {words.get(kind, 'a list')}")
