"""One writer of a folder at a time, among processes; whoever dies lets go."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl

    def _lock(handle: int) -> None:
        with suppress(OSError):  # on a file system without locks there is no better way
            fcntl.flock(handle, fcntl.LOCK_EX)

except ImportError:  # Windows
    import msvcrt

    def _lock(handle: int) -> None:
        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined, unused-ignore]
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EDEADLK):  # it tries for ten seconds
                    continue
            return


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process writes a folder, and keeps others out; the folder is there."""
    file = folder / ".lock"
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        _lock(handle)
        try:
            if os.path.samestat(os.stat(file), os.fstat(handle)):
                break
        except FileNotFoundError:  # whoever held it has removed it
            pass
        os.close(handle)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; it may stay
            file.unlink(missing_ok=True)
        os.close(handle)
