# SPDX-License-Identifier: Apache-2.0
"""Declaration of settings: default, unit, range and meaning in one place."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from lerf_ros.errors import ConfigError

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

POWER_OF_TEN = re.compile(r'[+-]?\d+[eE][+-]?\d+')

Value = TypeVar('Value')
Settings = TypeVar('Settings', bound='DataclassInstance')


def setting(default: Value, doc: str, *, unit: str = '', low: float | None = None,
            high: float | None = None, choices: tuple[str, ...] = ()) -> Value:
    """Declares a dataclass field with its meaning; low and high are inclusive.

    Like dataclasses.field, it is typed as if it returned the default.
    """
    metadata = {'doc': doc, 'unit': unit, 'low': low, 'high': high, 'choices': choices}
    return typing.cast(Value, dataclasses.field(default=default, metadata=metadata))


class Checked:
    """Base of dataclasses of settings: checks type, range and choices of every field."""

    def __post_init__(self) -> None:
        hints = hints_of(type(self))    # type: ignore[arg-type]
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if field.metadata:
                value = coerce(field.name, getattr(self, field.name), hints[field.name])
                object.__setattr__(self, field.name, value)
                check(field, value)


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """Returns the types of the fields of a class, which take long to look up."""
    return typing.get_type_hints(kind)


def coerce(name: str, value: object, hint: type) -> object:
    """Returns a value as the type of its setting: integers become floats, lists become tuples.

    So do numbers such as 5e-4, which YAML 1.1 reads as text because they have no point. Raises
    ConfigError for a value of another type.
    """
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and POWER_OF_TEN.fullmatch(value):
        return float(value)
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ConfigError(f'{name} = {value!r}: expected a list')
        item = typing.get_args(hint)[0]
        return tuple(coerce(name, v, item) for v in value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise ConfigError(f'{name} = {value!r}: expected {hint.__name__}, '
                          f'got {type(value).__name__}')
    return value


def check(field: dataclasses.Field, value: object) -> None:
    """Raises ConfigError if a value is outside its range or not one of its choices."""
    low, high, choices = (field.metadata[k] for k in ('low', 'high', 'choices'))
    for v in value if isinstance(value, tuple) else (value,):
        if choices and v not in choices:
            raise ConfigError(f'{field.name} = {v!r}: choose one of {", ".join(choices)}')
        if isinstance(v, (int, float)) and not isinstance(v, bool):
            outside = (low is not None and v < low) or (high is not None and v > high)
            if outside or math.isnan(v):
                unit = f' {field.metadata["unit"]}' if field.metadata['unit'] else ''
                raise ConfigError(f'{field.name} = {v}{unit}: must lie between '
                                  f'{low if low is not None else "-inf"} and '
                                  f'{high if high is not None else "inf"}{unit}')


def flat_fields(config: DataclassInstance,
                prefix: str = '') -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Yields all settings of nested dataclasses as (dotted name, field, value)."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from flat_fields(value, f'{prefix}{field.name}.')
        else:
            yield f'{prefix}{field.name}', field, value


def flatten(overrides: Mapping[str, object], prefix: str = '') -> dict[str, object]:
    """Flattens nested mappings to one with dotted names."""
    flat: dict[str, object] = {}
    for name, value in overrides.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f'{prefix}{name}.'))
        else:
            flat[f'{prefix}{name}'] = value
    return flat


def nearest(name: str, known: list[str]) -> str:
    """Returns a hint at the known name closest to a misspelt one, or '' if none is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not close:   # the last part alone: "rays" finds "training.rays"
        tails = {k.rsplit('.', 1)[-1]: k for k in known}
        tail = difflib.get_close_matches(name.rsplit('.', 1)[-1], list(tails), n=1, cutoff=0.5)
        close = [tails[tail[0]]] if tail else []
    return f'; did you mean {close[0]!r}?' if close else ''


def override(config: Settings, overrides: Mapping[str, object]) -> Settings:
    """Returns a copy of `config` with nested or dotted overrides.

    Raises ConfigError for an unknown name (naming the nearest) and for a value out of range.
    """
    flat = flatten(overrides)
    known = [name for name, _, _ in flat_fields(config)]
    for name in flat:
        if name not in known:
            raise ConfigError(f'unknown setting {name!r}{nearest(name, known)}')
    return _replace(config, flat, '')


def _replace(config: Settings, flat: Mapping[str, object], prefix: str) -> Settings:
    changes: dict[str, object] = {}
    for field in dataclasses.fields(config):
        name, value = f'{prefix}{field.name}', getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = _replace(value, flat, f'{name}.')
        elif name in flat:
            changes[field.name] = flat[name]
    return dataclasses.replace(config, **changes)


def to_dict(config: DataclassInstance) -> dict[str, Any]:
    """Returns the settings as nested dictionaries of plain values, ready for JSON or YAML."""
    return dataclasses.asdict(config)
