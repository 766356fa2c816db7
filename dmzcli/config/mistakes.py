"""What a setting's value may be, and what is wrong with one, in plain sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dmzcli.errors import did_you_mean

_BOUNDS = {
    "greater_than": ("above {gt}", "gt"),
    "greater_than_equal": ("at least {ge}", "ge"),
    "less_than": ("below {lt}", "lt"),
    "less_than_equal": ("at most {le}", "le"),
    "multiple_of": ("a multiple of {multiple_of}", "multiple_of"),
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list, such as 1,2,2",
    "finite": "a finite number",
}
_LONGEST = 60


def shown(value: Any) -> str:
    """A setting's value for a person, as ``--set`` takes it: ``empty`` for none, a list with commas.

    Example:
        >>> shown(None), shown((1, 2)), shown(True), shown("cosine")
        ('empty', '1,2', 'true', 'cosine')
    """
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        text = ",".join("…" if isinstance(part, list | dict) else shown(part) for part in value) or "[]"
    else:
        text = "a table" if isinstance(value, dict) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def quoted(value: Any) -> str:
    """The same with quotes around text."""
    return repr(value) if isinstance(value, str) and value else shown(value)


def path_text(value: str | None) -> str | None:
    """A path that a file of settings can hold.

    Raises:
        ValueError: It is not in UTF-8, or has a zero byte.
    """
    if value and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        raise ValueError("expected a path in UTF-8")
    return value


def sentence(error: Mapping[str, Any]) -> tuple[str, str]:
    """Message and hint of one of pydantic's errors, without the place that the value is from.

    Arguments:
        error: An entry of ``ValidationError.errors()``.
    """
    kind, context = str(error["type"]), error.get("ctx", {})
    key = ".".join(str(part) for part in error["loc"][:2])
    hint = "see dmz train --settings for all settings"
    value = error["input"]
    what = f"{key} = {quoted(value)}" if key else "the whole"
    if kind in _BOUNDS:
        form, _ = _BOUNDS[kind]
        expected = form.format(**{name: f"{bound:,}".removesuffix(".0") for name, bound in context.items()})
    elif kind == "literal_error":
        names = re.findall(r"'([^']+)'", context["expected"])
        expected = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"
        expected = expected if names else str(context["expected"])
        if isinstance(value, str) and names:
            hint = did_you_mean(value, names)
    elif kind in ("too_short", "too_long"):
        bound = context.get("min_length", context.get("max_length"))
        expected = f"a list of {'at least' if kind == 'too_short' else 'at most'} {bound}"
    elif kind == "value_error":
        reason = str(error["msg"]).removeprefix("Value error, ")
        return (f"{what}: {reason}" if key else reason), hint
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        expected = "a table of settings"
    else:
        expected = _KINDS.get(kind.split("_")[0], "another kind of value")
    return f"{what}: expected {expected}", hint
