"""What a page may ask, as JSON: known fields alone, of the right types, within bounds."""

from __future__ import annotations

from typing import Annotated, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dmzcli.errors import UserError

Array = np.ndarray
Code = Annotated[str, StringConstraints(pattern="^[01]+$", max_length=1 << 16)]
"""Bits as text of 0 and 1."""
Page = Annotated[str, StringConstraints(min_length=1, max_length=64)]
"""A page's own name for itself, under which its newest request is known."""
Name = Annotated[str, StringConstraints(max_length=256)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Asked(BaseModel):
    """A request's body."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Row(Asked):
    """An image of the dataset."""

    row: int


class Decode(Asked):
    """Images of codes, each with each noise."""

    page: Page
    codes: Annotated[list[Code], Field(min_length=1, max_length=16)]
    noises: Annotated[list[Seed], Field(min_length=1, max_length=16)]
    steps: Annotated[int, Field(ge=1, le=10_000)]
    sampler: Name


class Read(Asked):
    """What is known of a code."""

    code: Code


class Neighbors(Asked):
    """Images with codes near one."""

    code: Code
    count: Annotated[int, Field(ge=1, le=50)] = 12


class Draw(Asked):
    """A sample of a prior."""

    prior: Name
    seed: Seed


class Complete(Asked):
    """Free bits in place of those that are not locked."""

    page: Page
    prior: Name
    code: Code
    locked: Code
    seed: Seed = 0
    likeliest: bool = False


class Steer(Asked):
    """More or less of a class or attribute."""

    code: Code
    locked: Code
    target: Name
    k: int
    more: bool


class Path(Asked):
    """A way from one code to another."""

    page: Page
    start: Code
    end: Code
    prior: Name | None = None


T = TypeVar("T", bound=Asked)


def parsed(kind: type[T], body: bytes) -> T:
    """A request's body.

    Raises:
        UserError: It is no JSON, or not what this kind of request says.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"the request's {where or 'body'} does not fit: {first['msg']}",
            "choose another value, or reload the page",
        ) from error


def bits_of(code: str, dim: int) -> Array:
    """A code as uint8 (D,).

    Raises:
        UserError: It has another length.
    """
    if len(code) != dim:
        raise UserError(f"the code has {len(code)} bits, the model has {dim}", "use a code of this run")
    return np.frombuffer(code.encode(), np.uint8) - ord("0")


def code_of(bits: Array) -> str:
    """Bits (D,) as text."""
    return "".join(map(str, bits.tolist()))
