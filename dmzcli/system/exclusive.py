"""A file that one process at a time has: by the system's lock or, on file systems without, by a mark beside it."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dmzcli.errors import UserError
from dmzcli.system.reading import loads_object, read_bytes

try:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

except ImportError:  # Windows
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # a locked byte cannot be read; nothing is written so far out
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]


_OWN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_SILENT = 10.0
"""Seconds after which an owner who has not said who it is counts as dead, where there are no locks."""
_LONGEST = 1 << 20
"""Most bytes that an owner may say of itself."""
_open: set[int] = set()


@dataclass(frozen=True)
class Exclusive:
    """A file that this process has.

    Attributes:
        file: Its path.
        handle: Descriptor that the system's lock hangs on; ``None`` on file systems without locks.
    """

    file: Path
    handle: int | None

    @classmethod
    def take(cls, file: Path, facts: Mapping[str, Any]) -> Exclusive | None:
        """Takes a file, if nobody has it.

        Arguments:
            file: The path; its folder is there.
            facts: Who takes it, for others to read: with ``process``, ``machine`` and ``since``.

        Returns:
            The file, or ``None`` where another has it.

        Raises:
            OSError: The folder cannot be written.
        """
        text = json.dumps(facts).encode()
        while True:
            # A link would have another file written over, and a FIFO be waited for.
            handle = os.open(file, os.O_RDWR | os.O_CREAT | _OWN, 0o666)
            try:
                _lock(handle)
                if not _is(file, handle):  # whoever had it has removed it
                    os.close(handle)
                    continue
                os.ftruncate(handle, 0)
                os.lseek(handle, 0, os.SEEK_SET)
                os.write(handle, text)
            except OSError as error:
                os.close(handle)
                if error.errno in _NO_LOCKS:
                    return cls._claim(file, text)
                if error.errno in _BUSY:
                    return None
                raise
            _open.add(handle)
            return cls(file, handle)

    @classmethod
    def _claim(cls, file: Path, text: bytes) -> Exclusive | None:
        """The same where the file system has no locks: the file is whose process made it, until that has died."""
        mark = _mark(file)
        with suppress(FileExistsError):
            handle = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            os.write(handle, text)
            os.close(handle)
            return cls(file, None)
        if _abandoned(mark):
            mark.unlink(missing_ok=True)
            return cls._claim(file, text)
        return None

    @staticmethod
    def read(file: Path) -> bytes:
        """What whoever has a file says of itself.

        Raises:
            UserError: The file is gone, or none that we write.
        """
        mark = _mark(file)
        return read_bytes(mark if mark.exists() else file, _LONGEST)

    def release(self) -> None:
        """Gives the file back, and removes it."""
        with suppress(OSError):  # Windows removes no open file; it may stay
            self.file.unlink(missing_ok=True)
        if self.handle is None:
            _mark(self.file).unlink(missing_ok=True)
        else:
            _open.discard(self.handle)
            os.close(self.handle)


def _mark(file: Path) -> Path:
    return file.with_name(f"{file.name}ed")


def _is(file: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(handle))
    except FileNotFoundError:
        return False


def _abandoned(mark: Path) -> bool:
    """Whether the process that made a mark is known to have died."""
    try:
        facts = loads_object(read_bytes(mark, _LONGEST))
        process, since = int(facts["process"]), datetime.fromisoformat(facts["since"]).timestamp()
        if facts["machine"] != socket.gethostname():
            return False
        if process < 1:
            raise ValueError("no process has such a number")
    except UserError as error:
        return isinstance(error.__cause__, FileNotFoundError)
    except (
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
    ):  # killed before it could say who it is, or just about to
        return time.time() - mark.stat().st_mtime > _SILENT
    import psutil

    try:
        return bool(psutil.Process(process).create_time() > since + 1)  # another has its number by now
    except psutil.NoSuchProcess:
        return True


def _forget() -> None:
    """In a fork: lets go of the parent's files, which would stay taken after its death."""
    for handle in _open:
        os.close(handle)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
