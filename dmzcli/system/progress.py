"""How library code tells of long work without knowing who listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float, str], None]
"""(how much is done, a short message)."""


class Talk(Protocol):
    """Someone to tell."""

    def say(self, message: str) -> None:
        """A line of talk."""

    def task(
        self, description: str, total: float, done: float = 0, until: float | None = None
    ) -> AbstractContextManager[Advance]:
        """Long work of ``total`` units, ``done`` of them already; yields what reports the units done so far.

        It ends at ``until``, by the monotonic clock, if it has not ended before.
        """


class Silence:
    """Nobody listens."""

    def say(self, message: str) -> None:
        """Drops the message."""

    @contextmanager
    def task(
        self, description: str, total: float, done: float = 0, until: float | None = None
    ) -> Iterator[Advance]:
        """Drops the reports."""
        yield lambda done, message: None


def remaining(done: float, total: float, rate: float, until: float | None = None) -> float | None:
    """Seconds that work still takes; ``None`` where its rate is not known.

    Arguments:
        done, total: Units.
        rate: Units a second.
        until: When it ends at the latest, by the monotonic clock.
    """
    by_rate = max(0.0, total - done) / rate if rate > 0 else None
    by_clock = None if until is None else max(0.0, until - time.monotonic())
    return min((seconds for seconds in (by_rate, by_clock) if seconds is not None), default=None)


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(8), duration(150), duration(7330)
        ('8 s', '2 min', '2 h 2 min')
    """
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min" if minutes else f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min"
