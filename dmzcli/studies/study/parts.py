"""Tables of a study's file, and what is wrong with one in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dmzcli.config.mistakes import sentence
from dmzcli.errors import UserError, did_you_mean


class Part(BaseModel):
    """A table of the file: no key is unknown, and nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=Part)


def validated(kind: type[P], tree: Mapping[str, Any], where: str) -> P:
    """A table of the file as what it stands for.

    Raises:
        UserError: A key is unknown or a value does not fit.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            key, known = str(first["loc"][-1]), _keys(kind, first["loc"][:-1])
            raise UserError(f"unknown key '{key}' in {where}", did_you_mean(key, known, "keys")) from error
        message, _ = sentence(first)
        raise UserError(
            f"{message} (in {where})", "see examples/studies for how a study is written"
        ) from error


def _keys(kind: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    for name in place:
        inner = kind.model_fields[str(name)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        kind = inner
    return list(kind.model_fields)
