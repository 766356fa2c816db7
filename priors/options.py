"""Options of a prior: one frozen dataclass per kind, checked, and read from strings by name.

A field is declared with :func:`option`; its annotation is one of ``int``, ``float``, ``bool``, ``str``,
``tuple[int, ...]``, or one of these ``| None``, where ``None`` (written ``auto``) lets the fit choose.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from priors.errors import PriorError, did_you_mean

Declared = tuple[dataclasses.Field[Any], Any, bool]  # a field, its type without None, whether None is allowed


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


class OptionInfo(NamedTuple):
    """What a help text says of one option: its type in words, its default and its meaning."""

    type: str
    default: Any
    help: str


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field of an options dataclass.

    Arguments:
        default: The value where the caller passes none; ``None`` means that the fit chooses.
        help: One line of meaning.
        low: The least value allowed, inclusive.
        high: The greatest value allowed, inclusive.
        choices: The words allowed.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices}
    )


def _base_type(annotation: Any) -> tuple[Any, bool]:
    """The type without ``None``, and whether ``None`` is allowed."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        arms = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
        if len(arms) == 1:
            return arms[0], True
    return annotation, False


def _words(base: Any, optional: bool, field: dataclasses.Field[Any]) -> str:
    names = {int: "integer", float: "number", bool: "true or false", str: "word"}
    words = names.get(base, "integers separated by commas")
    if field.metadata.get("choices"):
        words = " or ".join(field.metadata["choices"])
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is not None and high is not None:
        words += f" from {low:g} to {high:g}"
    elif low is not None:
        words += f" of at least {low:g}"
    elif high is not None:
        words += f" of at most {high:g}"
    return words + (", or auto" if optional else "")


def _parse(base: Any, text: str) -> Any:
    text = text.strip()
    if base is bool:
        table = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return table[text.lower()]
    if base is int:
        return int(text)
    if base is float:
        return float(text)
    if base is str:
        return text
    return tuple(int(part) for part in text.split(","))


def _convert(base: Any, value: Any) -> Any:
    """The typed value as the dataclass stores it; raises TypeError where the type is another."""
    if base is bool:
        if isinstance(value, bool):
            return value
    elif base is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if hasattr(value, "__index__") and not isinstance(value, bool):
            return int(value)
    elif base is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif base is str:
        if isinstance(value, str):
            return value
    elif isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value):
        return tuple(value)
    raise TypeError


def _within(value: Any, field: dataclasses.Field[Any]) -> bool:
    low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if choices is not None:
        return value in choices
    numbers = value if isinstance(value, tuple) else (value,)
    return all((low is None or v >= low) and (high is None or v <= high) for v in numbers)


def _refusal(kind: str, value: Any, declared: Declared) -> PriorError:
    field, base, optional = declared
    return PriorError(
        f"option '{field.name}' of the prior '{kind}' is {value!r}; expected {_words(base, optional, field)}",
        field.metadata.get("help", ""),
    )


def _fields(cls: type, kind: str, names: Mapping[str, Any]) -> dict[str, Declared]:
    hints = typing.get_type_hints(cls)
    fields = {f.name: (f, *_base_type(hints[f.name])) for f in dataclasses.fields(cls)}
    for name in names:
        if name not in fields:
            raise PriorError(f"unknown option '{name}' of the prior '{kind}'", did_you_mean(name, fields))
    return fields


def check_class(cls: Any) -> None:
    """Raises TypeError unless ``cls`` is a frozen dataclass with supported field types and defaults."""
    if not (dataclasses.is_dataclass(cls) and isinstance(cls, type)):
        raise TypeError("Options is not a dataclass")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError("Options is not frozen")
    for name, (field, base, _) in _fields(cls, "", {}).items():
        if base not in (int, float, bool, str, tuple[int, ...]):
            raise TypeError(f"option '{name}' has the unsupported type {base}")
        if field.default is dataclasses.MISSING:
            raise TypeError(f"option '{name}' has no default")


def describe(cls: type) -> dict[str, OptionInfo]:
    """Name → (type in words, default, help) of every option of an options dataclass."""
    return {
        name: OptionInfo(_words(base, optional, field), field.default, field.metadata.get("help", ""))
        for name, (field, base, optional) in _fields(cls, "", {}).items()
    }


def build(cls: type, kind: str, values: Mapping[str, Any]) -> Any:
    """The options dataclass with the given typed values.

    Raises:
        PriorError: A name is unknown, or a value has another type or is outside its range.
    """
    fields = _fields(cls, kind, values)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        field, base, optional = fields[name]
        if value is None and optional:
            checked[name] = None
            continue
        try:
            checked[name] = _convert(base, value)
            good = _within(checked[name], field)
        except TypeError:
            good = False
        if not good:
            raise _refusal(kind, value, fields[name])
    return cls(**checked)


def parse(cls: type, kind: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Typed values from strings such as a command line gives; ``auto`` and ``none`` mean ``None``.

    Raises:
        PriorError: A name is unknown, or a string is not a value of the option's type and range.
    """
    fields = _fields(cls, kind, texts)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        _, base, optional = fields[name]
        if optional and text.strip().lower() in ("auto", "none"):
            values[name] = None
            continue
        try:
            values[name] = _parse(base, text)
        except (ValueError, KeyError) as error:
            raise _refusal(kind, text, fields[name]) from error
    build(cls, kind, values)
    return values
