"""What is read from outside is looked at first: a regular file, of a size that fits, of JSON that is not too deep.

A FIFO or a device would be waited for, or never end; a few kilobytes can announce terabytes. Nothing is believed
about a size before it has been compared with the bytes that are there.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from dmzcli.errors import UserError
from dmzcli.system.refusals import refusal

JSON_BYTES = 64 << 20
"""Most bytes of a JSON file, and of a list in a text file."""
DEPTH = 64
"""Most levels of lists and objects in JSON, far below what Python's own recursion takes."""
_UNTOUCHED = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""Flags of the systems that have them: wait for no FIFO, stay in this process, and leave line ends as they are."""
_UNSIZED = 1 << 20
"""Bytes that are asked for where the system tells no size."""
UNPACKED_BYTES = 1 << 30
"""What any file may unpack to; more only up to :data:`UNPACKED_TIMES` the bytes that it has."""
UNPACKED_TIMES = 100


def check_regular(path: str | Path) -> os.stat_result:
    """The facts of a regular file, or of what a link leads to.

    Raises:
        UserError: There is none, or it is a folder, a FIFO, a device or a socket.
    """
    try:
        facts = os.stat(path)
    except OSError as error:
        raise refusal(error, path) from error
    _refuse_others(path, facts)
    return facts


@contextmanager
def opened(path: str | Path) -> Iterator[BufferedReader]:
    """Opens a regular file for reading, and waits for nothing.

    Raises:
        UserError: There is none, it may not be read, or it is no regular file.
    """
    try:
        number = os.open(path, os.O_RDONLY | _UNTOUCHED)
    except OSError as error:
        check_regular(path)  # a socket cannot be opened at all
        raise refusal(error, path) from error
    try:
        _refuse_others(path, os.fstat(number))
    except UserError:
        os.close(number)
        raise
    with os.fdopen(number, "rb") as stream:
        yield stream


def read_bytes(path: str | Path, limit: int = JSON_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        UserError: As :func:`opened`; or it has more than ``limit`` bytes.
    """
    with opened(path) as stream:
        try:
            there = os.fstat(stream.fileno()).st_size
            if there > limit:
                raise too_large(str(path), limit)
            # All that is asked for is allocated first.
            content = stream.read(min(max(there, _UNSIZED), limit) + 1)
        except OSError as error:
            raise refusal(error, path) from error
    if len(content) > limit:
        raise too_large(str(path), limit)
    return content


def too_large(name: str, limit: int) -> UserError:
    """The refusal of a file or an archive's entry that has more than ``limit`` bytes."""
    return UserError(f"{name} is larger than {size(limit)}, the most that is read", "check what it is")


def unpacked_limit(packed: int) -> int:
    """How many bytes a file of ``packed`` bytes may unpack to."""
    return max(UNPACKED_BYTES, UNPACKED_TIMES * packed)


def size(count: int) -> str:
    """A number of bytes for a person."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {unit}"
    return f"{count} bytes"


def loads(text: str | bytes) -> Any:
    """``json.loads`` that has one error for all that is wrong.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    if level:
        raise ValueError("it is nested too deeply")
    return value


def loads_object(text: str | bytes) -> dict[str, Any]:
    """The same of a JSON object.

    Raises:
        ValueError: It is anything else.
    """
    value = loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"it holds a JSON {type(value).__name__}, not an object")
    return value


def _refuse_others(path: str | Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        what = next((word for test, word in _KINDS if test(facts.st_mode)), "special file")
        raise UserError(f"{path} is not a file, but a {what}", "name a regular file")


_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISSOCK, "socket"),
)
