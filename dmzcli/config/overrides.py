"""How presets, flags and ``--set`` entries become one nested mapping, the later winning over the earlier."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from dmzcli.config.experiment import DataOnly, fields, known_keys, parse_as
from dmzcli.config.mistakes import shown
from dmzcli.config.sections import DataConfig
from dmzcli.errors import UserError, did_you_mean


@cache
def presets() -> dict[str, dict[str, Any]]:
    """The shipped presets: nested overrides by name."""
    return tomllib.loads((files("dmzcli.config") / "presets.toml").read_text(encoding="utf-8"))


def preset(name: str) -> dict[str, Any]:
    """One preset's overrides.

    Raises:
        UserError: There is none of that name.
    """
    if name not in presets():
        raise UserError(f"unknown preset '{name}'", did_you_mean(name, presets(), "presets"))
    return {section: dict(values) for section, values in presets()[name].items()}


def _value(section: str, name: str, text: str) -> Any:
    """A ``--set`` value: JSON where it reads as JSON, a comma list for tuples, else the text itself."""
    annotation = str(fields()[section].model_fields[name].annotation)
    if "tuple" in annotation and not text.startswith("[") and text not in ("", "null", "none"):
        return [part.strip() for part in text.split(",")]
    if text in ("", "null", "none") and "None" in annotation:
        return None
    if text in get_args(fields()[section].model_fields[name].annotation) or annotation == "<class 'str'>":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def assignments(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Turns ``["model.channels=64"]`` into ``{"model": {"channels": 64}}``.

    Raises:
        UserError: An entry has no ``=``, or its key is unknown.
    """
    tree: dict[str, dict[str, Any]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting} has no '='", "write it as --set model.channels=64")
        if key not in known_keys():
            raise UserError(f"unknown setting '{key}'", did_you_mean(key, known_keys(), "known settings"))
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = _value(section, name, text)
    return tree


def given_only(flags: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The flags that were given: entries of ``None`` were not."""
    return {section: {k: v for k, v in values.items() if v is not None} for section, values in flags.items()}


def merge(*trees: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merges nested overrides; the later one wins."""
    merged: dict[str, dict[str, Any]] = {}
    for tree in trees:
        for section, values in tree.items():
            merged.setdefault(section, {}).update(values)
    return merged


def data_settings(
    dataset: str, settings: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> DataConfig:
    """How a dataset's images are read: as training would read them, but at any size, since no U-Net takes part.

    Arguments:
        dataset: Registered name or path; the ``[data]`` table of the preset named like it comes first.
        settings: ``data.key=value`` entries, which win.
        flags: Entries of the ``[data]`` table; those of ``None`` were not given.

    Raises:
        UserError: A setting is none of the data, or a value does not fit.
    """
    tree = _of_data(settings)
    table = presets().get(dataset, {}).get("data", {})
    merged = merge({"data": table}, {"data": {"dataset": dataset}}, given_only({"data": flags or {}}), tree)
    given = merge(given_only({"data": flags or {}}), tree).get("data", {})

    def said_by(key: str) -> str:
        return f"preset {dataset}" if key.partition(".")[2] not in given and table else "flags and --set"

    return parse_as(DataOnly, merged, said_by).data


def changed_data(data: DataConfig, settings: Sequence[str]) -> DataConfig:
    """A run's way to read images with some ``data.key=value`` entries changed.

    Raises:
        UserError: A setting is none of the data, or a value does not fit.
    """
    tree = merge({"data": data.model_dump()}, _of_data(settings))
    return parse_as(DataOnly, tree, "--set").data if settings else data


def _of_data(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    for setting in settings:
        if not setting.startswith("data."):
            raise UserError(
                f"--set {setting} is no setting of how images are read", "such as --set data.size=64"
            )
    return assignments(settings)


def list_all_settings(name: str | None = None) -> tuple[dict[str, Any], str]:
    """Every setting with its default and meaning, and the presets.

    Arguments:
        name: A preset, whose values then stand in the place of the defaults.

    Raises:
        UserError: There is no such preset.
    """
    chosen = {} if name is None else preset(name)
    facts: dict[str, Any] = {"preset": name, "settings": {}, "presets": presets()}
    lines = [] if name is None else [f"with preset {name}; the defaults of what it changes in parentheses"]
    for section, cls in fields().items():
        for key, field in cls.model_fields.items():
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            value = chosen.get(section, {}).get(key, default)
            facts["settings"][f"{section}.{key}"] = {
                "default": default,
                "value": value,
                "help": field.description,
            }
            text = f"{section}.{key} = {shown(value)}"
            text += f" ({shown(default)})" if value != default else ""
            lines.append(f"{text:<44} {field.description or ''}".rstrip())
    lines += ["", f"presets: {', '.join(presets())}"]
    return facts, "\n".join(lines)
