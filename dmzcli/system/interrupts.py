"""Interruptions that long work can answer in its own time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """A signal asked long work to stop, and what was done is saved.

    Arguments:
        number: Number of the signal.
        kept: Sentence for the user: what was saved.
    """

    def __init__(self, number: int, kept: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {kept}")
        self.number, self.kept = number, kept


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in a list instead of dying of them; a second one is obeyed at once.

    Afterwards the handlers are what they were before, but for one that was changed inside.
    """
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            signal.signal(number, previous[number])
            signal.raise_signal(number)
        caught.append(number)

    try:
        for asked in (signal.SIGINT, signal.SIGTERM):
            previous[asked] = signal.signal(asked, note)
    except ValueError:  # not the main thread: signals are not ours to take
        pass
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)
