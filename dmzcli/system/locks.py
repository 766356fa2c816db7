"""One writer: a place is written by one command at a time, and the next one sweeps what a killed one left.

A place is a folder (a run, samples, a sweep) or a file (a table, a pack, a card). Its lock is ``.lock`` in the folder,
or ``.NAME.lock`` next to the file, and says who holds it; what is written takes shape in one temporary folder, ``.tmp``
or ``.NAME.tmp``, and is renamed to where it belongs. The system frees the lock of a process that has died, so whoever
takes a lock may empty the temporary folder: nobody is left who writes there. Both are gone when the work ends. Readers
take no lock, as a rename shows them the old or the new.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shlex
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dmzcli.errors import UserError
from dmzcli.system import processes
from dmzcli.system.exclusive import Exclusive
from dmzcli.system.reading import loads_object
from dmzcli.system.refusals import user_errors

WHILE = 10.0
"""Seconds that the write of a single file waits for another of the same file."""
_PAUSE = 0.05
_LEFT_BY_EARLIER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp|\.tmp[A-Za-z0-9]{6}")
"""Names of the temporary files of earlier versions, and of the serializer that they used."""

Say = Callable[[str], None]


class InUse(UserError):
    """Another command writes the place."""


@dataclass(frozen=True)
class Place:
    """What one command writes.

    Attributes:
        path: Its name, as the user gave it.
        root: The same in full.
        folder: Whether it is a folder.
        thread: The thread that holds it.
        made: Folders that were made for it, the innermost first.
    """

    path: Path
    root: Path
    folder: bool
    thread: int = field(default_factory=threading.get_ident)
    made: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, folder: bool) -> Place:
        """The place of a path."""
        return cls(path, path.resolve() if folder else _full(path), folder)

    @property
    def home(self) -> Path:
        """The folder that its lock lies in."""
        return self.root if self.folder else self.root.parent

    @property
    def lock(self) -> Path:
        """The lock's file."""
        return self.home / (".lock" if self.folder else f".{self.root.name}.lock")

    @property
    def temporary(self) -> Path:
        """The folder in which its files take shape."""
        return self.home / (".tmp" if self.folder else f".{self.root.name}.tmp")

    def covers(self, path: Path) -> bool:
        """Whether a path, in full, is written under this place's lock."""
        if self.folder:
            return path.is_relative_to(self.root)
        return path == self.root or path.is_relative_to(self.home / f".{self.root.name}.parts")

    def sweep(self) -> None:
        """Removes what killed writers left."""
        if self.temporary.exists():
            shutil.rmtree(self.temporary)
        own = re.compile(rf"\.{re.escape(self.root.name)}\.[a-z0-9_]{{8}}\.tmp")
        for folder, below, files in os.walk(self.home):
            for name in files:
                if (_LEFT_BY_EARLIER if self.folder else own).fullmatch(name):
                    with suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, name))
            if not self.folder or len(Path(folder).relative_to(self.home).parts) == 2:
                below.clear()


_held: dict[Path, Place] = {}
"""What this process holds, by full names."""


def _full(path: Path) -> Path:
    return path.parent.resolve() / path.name  # a link is itself what a rename replaces


def leftover(name: str) -> bool:
    """Whether a file of this name in a place is none of its contents: its lock, or what is taking shape."""
    return name in (".lock", ".tmp") or _LEFT_BY_EARLIER.fullmatch(name) is not None


@contextmanager
def hold(path: Path, folder: bool = False, patience: float = 0.0, say: Say | None = None) -> Iterator[None]:
    """Holds the lock of a place: nobody else writes it meanwhile. A thread that holds it already goes on at once.

    Arguments:
        path: The place; its folder is made.
        folder: Whether the place is a folder.
        patience: Seconds to wait for another holder; ``math.inf`` for as long as it takes.
        say: Told whom it waits for.

    Raises:
        InUse: Another command holds it, told by name, process and machine.
        UserError: The folder cannot be written.
    """
    place = Place.of(path, folder)
    ours = _held.get(place.root)
    if ours is not None and ours.thread == place.thread:
        yield
        return
    with user_errors(path):
        lock = _take(place, patience, say)
    _held[place.root] = place
    try:
        with user_errors(path):
            place.sweep()
        yield
    finally:
        if _held.pop(place.root, None) is place:  # else this is a fork, and the place is its parent's
            shutil.rmtree(place.temporary, ignore_errors=True)
            lock.release()
            for empty in place.made:
                with suppress(OSError):  # what was written stays
                    empty.rmdir()


def in_use(path: Path, folder: bool = False) -> bool:
    """Whether another command writes a place.

    Raises:
        UserError: The lock may not be read.
    """
    place = Place.of(path, folder)
    with user_errors(path):
        if not place.lock.exists():
            return False
        lock = Exclusive.take(place.lock, _self())
        if lock is not None:
            lock.release()
        return lock is None


def tidy(path: Path, folder: bool = False) -> None:
    """Removes what a killed writer has left of a place whose contents are whole, so that nothing is to be written.

    Where another command writes it, or the folder cannot be written, it stays as it is.
    """
    place = Place.of(path, folder)
    if place.lock.exists() or place.temporary.exists():
        with suppress(UserError), hold(path, folder):
            pass


@contextmanager
def hold_together(path: Path, folder: bool = False, say: Say | None = None) -> Iterator[None]:
    """Holds the lock of a place for all processes of a command: the main one takes it, and all fail together.

    Arguments:
        path, folder, say: As for :func:`hold`.

    Raises:
        UserError: As :func:`hold`; in the other processes too.
    """
    refused: UserError | None = None
    with ExitStack() as stack:
        if processes.main():
            try:
                stack.enter_context(hold(path, folder, say=say))
            except UserError as error:
                refused = error
        if processes.largest(refused is not None)[0]:
            raise refused or UserError(
                f"the main process cannot write {path}", "see what it said, and do as it hints"
            )
        place = Place.of(path, folder)
        delegated = place.root not in _held
        _held.setdefault(place.root, place)
        try:
            yield
        finally:
            if delegated:
                _held.pop(place.root, None)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields the temporary folder for a write to ``path``: of the held place that it belongs to, or of its own.

    Raises:
        UserError: Another command holds the place of that one file, and does not let it go in ten seconds.
    """
    full = _full(path)
    with user_errors(path):
        full.parent.mkdir(parents=True, exist_ok=True)
    places = [place for place in _held.values() if place.covers(full)]
    place = max(places, key=lambda place: len(place.root.parts), default=None)
    with ExitStack() as stack:
        if place is None or os.stat(place.home).st_dev != os.stat(full.parent).st_dev:
            stack.enter_context(hold(path, patience=WHILE))  # nothing is renamed from disk to disk
            place = Place.of(path, folder=False)
        with user_errors(path):
            place.temporary.mkdir(exist_ok=True)
        yield place.temporary


def _take(place: Place, patience: float, say: Say | None) -> Exclusive:
    """Takes the lock, waiting for it as long as ``patience`` lasts."""
    deadline, told = time.monotonic() + patience, False
    while True:
        folder = place.home
        while not folder.exists():
            place.made.append(folder)
            folder = folder.parent
        place.home.mkdir(parents=True, exist_ok=True)
        try:
            lock = Exclusive.take(place.lock, _self())
        except FileNotFoundError:  # another has just removed the folder that it had made
            continue
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise UserError(f"{place.lock} is a link, and no lock of dmz", "remove it") from error
        if lock is not None:
            return lock
        if time.monotonic() >= deadline:
            raise InUse(
                f"{place.path} is in use: {_holder(place)}",
                "wait until it has ended, or end it; or name another place",
            )
        if say is not None and not told and patience == math.inf:
            told = True
            say(f"waiting for {place.path}: {_holder(place)}")
        time.sleep(_PAUSE)


def _self() -> dict[str, Any]:
    """Who we are, for others to read."""
    program = Path(sys.argv[0] if sys.argv else "")
    ours = program.name == "dmz" or program.parent.name == "dmzcli"
    name = "dmz" if ours else str(program) if program.name else "python"
    return {
        "command": shlex.join([name, *sys.argv[1:]]),
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _holder(place: Place) -> str:
    """Who holds a place, in words."""
    for _ in range(10):
        with suppress(UserError, ValueError, KeyError):
            facts = loads_object(Exclusive.read(place.lock))
            who = f"process {facts['process']} on {facts['machine']}"
            return f"'{facts['command']}' writes it ({who}, since {facts['since']})"
        time.sleep(_PAUSE)  # it has taken the lock and is about to say so
    return "another process writes it, and does not say which"


def _forget() -> None:
    """In a fork: the locks are the parent's."""
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
