"""How library code tells of long work without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float, str], None]
"""(how much is done, a short message)."""


class Talk(Protocol):
    """Someone to tell."""

    def say(self, message: str) -> None:
        """A line of talk."""

    def task(self, description: str, total: float, done: float = 0) -> AbstractContextManager[Advance]:
        """Long work of ``total`` units, ``done`` of them already; yields what reports the units done so far."""


class Silence:
    """Nobody listens."""

    def say(self, message: str) -> None:
        """Drops the message."""

    @contextmanager
    def task(self, description: str, total: float, done: float = 0) -> Iterator[Advance]:
        """Drops the reports."""
        yield lambda done, message: None
