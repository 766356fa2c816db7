"""Checks of what a caller passes; every refusal names the argument, its value and the expectation."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from priors.arrays import Bits
from priors.errors import PriorError

COLDEST = 1e-6
MOST_CODES = 10**9  # of one call


def check_bits(name: str, value: Any, width: int | None, rows: int | None = None, least: int = 1) -> Bits:
    """The array as uint8 (N, width) of 0 and 1.

    Arguments:
        name: The argument's name, for the message.
        value: uint8 or bool array (N, width).
        width: Columns expected, or ``None`` for any number of at least 1.
        rows: Rows expected, or ``None``.
        least: The least number of rows.

    Raises:
        PriorError: Another type, shape, or a value that is neither 0 nor 1.
    """
    # Of the kinds of arrays only the plain one: a mask would be ignored, and rows of a matrix are matrices.
    if not isinstance(value, np.ndarray) or isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise PriorError(
            f"{name} is a {type(value).__name__}; expected a numpy array of uint8",
            "convert it with numpy.asarray",
        )
    if value.dtype != np.uint8 and value.dtype != np.bool_:
        nan = value.dtype.kind in "fc" and bool(np.isnan(value).any())
        dtype = f"{value.dtype} with NaN in it" if nan else str(value.dtype)
        raise PriorError(
            f"{name} has dtype {dtype}; expected uint8 (or bool)", "bits are uint8 arrays of 0 and 1"
        )
    if value.ndim != 2:
        raise PriorError(
            f"{name} has shape {value.shape}; expected two axes (rows, bits)", "one code is one row"
        )
    if width is not None and value.shape[1] != width:
        raise PriorError(
            f"{name} has {value.shape[1]} columns; expected {width}", "a row has one column for each bit"
        )
    if value.shape[1] < 1:
        raise PriorError(f"{name} has no columns; expected at least 1", "a code has at least one bit")
    if rows is not None and len(value) != rows:
        raise PriorError(
            f"{name} has {len(value)} rows; expected {rows}", f"pass one row of {name} for each code"
        )
    if len(value) < least:
        raise PriorError(f"{name} has {len(value)} rows; expected at least {least}", "pass more rows")
    if value.dtype == np.bool_:
        return value.astype(np.uint8)
    top = int(value.max())
    if top > 1:
        raise PriorError(f"{name} holds the value {top}; expected only 0 and 1", "unpack packed bits first")
    return value


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """The value as an int from ``low`` to ``high``, or a PriorError that names it."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise PriorError(f"{name} is {value!r}; expected an integer")
    try:
        number = operator.index(value)
    except TypeError:  # an array of more than one number has __index__, too
        raise PriorError(f"{name} is {value!r}; expected an integer") from None
    if low is not None and number < low:
        raise PriorError(f"{name} is {number}; expected at least {low}")
    if high is not None and number > high:
        raise PriorError(f"{name} is {number}; expected at most {high}")
    return number


def check_seed(value: Any) -> int:
    """The value as an int from 0 to 2⁶⁴ − 1, or a PriorError: others would repeat the draws of one of these."""
    return check_integer("seed", value, low=0, high=2**64 - 1)


def check_temperature(value: Any) -> float:
    """The value as a finite float of at least ``COLDEST``, or a PriorError that names it."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise PriorError(
            f"temperature is {value!r}; expected a finite number above 0", "1 leaves it as fitted"
        )
    if number < COLDEST:
        raise PriorError(
            f"temperature is {value!r}; expected at least {COLDEST:g}",
            "there every bit is its likelier value",
        )
    return number
