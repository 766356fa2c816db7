"""The one exception for a wrong argument, and the did-you-mean that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PriorError(ValueError):
    """An argument, an option or a file that was given is wrong.

    Arguments:
        message: Names the argument, its value and what was expected, without a final full stop.
        hint: What to do about it.

    Example:
        >>> error = PriorError("dim is 0; expected at least 1", "pass the number of bits of a code")
        >>> str(error), error.hint
        ('dim is 0; expected at least 1', 'pass the number of bits of a code')
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest known one, or all of them.

    Example:
        >>> did_you_mean("chowliu", ["chow-liu", "uniform"])
        "did you mean 'chow-liu'?"
        >>> did_you_mean("xyz", ["chow-liu", "uniform"])
        'one of: chow-liu, uniform'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"one of: {', '.join(names)}" if names else "there are none"
