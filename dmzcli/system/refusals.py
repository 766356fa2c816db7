"""What the file system refuses, as sentences for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmzcli.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turns the file system's refusals about ``path`` into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"no space left to write {path}", "free some space and run it again") from error
        if error.errno in _DENIED:
            raise UserError(
                f"no permission to use {path}", "choose another folder with --out or --run"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{path} does not exist", "check the path") from error
        if isinstance(error, (IsADirectoryError, NotADirectoryError, FileExistsError)):
            raise UserError(f"{path} is not what was expected: {error.strerror}", "check the path") from error
        reason = error.strerror or str(error)
        raise UserError(f"{path} cannot be used: {reason}", "check the path and its disk") from error
