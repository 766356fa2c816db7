"""The one exception for a user's mistake, and the did-you-mean that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user gave is wrong; the program itself is fine.

    Commands print it as one ``error:`` and one ``hint:`` line and leave with exit code 2.

    Arguments:
        message: Names the thing, its value and what was expected, without a final full stop.
        hint: What to do about it.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def did_you_mean(name: str, known: Iterable[str], label: str = "one of") -> str:
    """A hint for a misspelt name: the closest known one, or all of them.

    Example:
        >>> did_you_mean("fasion-mnist", ["digits", "fashion-mnist"])
        "did you mean 'fashion-mnist'?"
        >>> did_you_mean("xyz", ["digits", "cifar10"])
        'one of: cifar10, digits'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"{label}: {', '.join(names)}"


class Unchecked(UserWarning):
    """A file of an earlier version carries no checksums: it was read, and not checked."""
