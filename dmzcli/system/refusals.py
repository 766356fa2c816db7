"""What the operating system refuses, in the words of every other mistake."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmzcli.errors import UserError

_LONGEST = 120
"""Letters of a path that an error shows; the longest that a file system takes has thousands."""


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turns the file system's refusals about ``path`` into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        raise refusal(error, path) from error


def refusal(error: OSError, path: str | Path | None = None) -> UserError:
    """A refusal of the operating system as a user's mistake.

    Arguments:
        error: What it raised.
        path: The path that it is about; by default the one that the error itself names.
    """
    where = _shown(path if path is not None else error.filename)
    reason = error.strerror or str(error) or type(error).__name__
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"no space left to write {where}", "free some space and run it again")
    if code == errno.EFBIG:
        return UserError(
            f"{where} would be larger than a file may be here",
            "raise the limit (ulimit -f), or write to another disk",
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(
            f"no permission to use {where}",
            "check its permissions, or name another folder with --out or --run",
        )
    if code == errno.ENAMETOOLONG:
        return UserError(f"the name {where} is longer than the file system takes", "choose a shorter one")
    if code == errno.ELOOP:
        return UserError(f"{where} is a link that leads to itself", "check the path")
    if code in (errno.EMFILE, errno.ENFILE):
        return UserError(f"too many files are open to use {where}", "raise the limit (ulimit -n)")
    if isinstance(error, FileNotFoundError):
        return UserError(f"{where} does not exist", "check the path")
    if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
        return UserError(f"{where} is not what was expected: {reason}", "check the path")
    return UserError(f"{where} cannot be used: {reason}", "check the path and its disk")


def _shown(path: object) -> str:
    if path is None or isinstance(path, int):
        return "the output" if path is None else f"file {path}"
    text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else str(path)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
