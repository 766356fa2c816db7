"""NumPy's files, ``.npy`` and ``.npz``, read without believing what they announce and without running their code."""

from __future__ import annotations

import errno
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from dmzcli.errors import UserError
from dmzcli.system import reading

_PIECE = 1 << 24
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def load(path: str | Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a ``.npy`` file, or the arrays of a ``.npz`` by name; the first bytes tell which it is.

    Raises:
        UserError: The file is missing, no regular one, or would unpack to more than is read.
        ValueError: It is damaged, announces more than it holds, or holds other things than arrays of numbers.
    """
    with reading.opened(path) as stream:
        head = stream.read(6)
        stream.seek(0)
        size = os.fstat(stream.fileno()).st_size
        with _damage():
            if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                return _members(stream, size, path)
            if head == b"\x93NUMPY":
                return _array(stream, size)
    raise ValueError("it does not start as one")


@contextmanager
def _damage() -> Iterator[None]:
    """Damaged bytes make NumPy and zipfile raise exceptions of any type."""
    try:
        yield
    except (UserError, ValueError):
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # of a place before the file's beginning
            raise
        raise ValueError("it is damaged") from error
    except Exception as error:
        raise ValueError("it is damaged") from error


def _members(stream: IO[bytes], size: int, path: str | Path) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(stream) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        limit = reading.unpacked_limit(size)
        if sum(info.file_size for info in members) > limit:
            raise reading.too_large(f"{path}, unpacked,", limit)
        for info in members:
            with archive.open(info) as member:
                arrays[info.filename.removesuffix(".npy")] = _array(member, info.file_size)
    return arrays


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    """An array of a stream that holds ``size`` bytes, header included."""
    shape, in_columns, dtype = _header(stream, size)
    count = math.prod(shape)
    flat = np.empty(count, dtype)
    room, start = flat.view(np.uint8).data if count else memoryview(b""), 0
    while start < len(room):
        piece = stream.read(min(_PIECE, len(room) - start))
        if not piece:
            raise ValueError("it is truncated")
        room[start : start + len(piece)] = piece
        start += len(piece)
    return flat.reshape(shape, order="F" if in_columns else "C")


def _header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array whose stream holds ``size`` bytes, header included."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError("it holds other things than arrays of numbers")
    shape, in_columns, dtype = _HEADERS[version](stream)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError("it holds other things than arrays of numbers")
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it announces an array of shape {shape}, and holds less")
    return shape, in_columns, dtype


def mapped(path: str | Path) -> np.ndarray:
    """The array of a ``.npy`` file, whose rows are read from the disk when they are used.

    Raises:
        UserError, ValueError: As :func:`load`.
    """
    with reading.opened(path) as stream, _damage():
        shape, in_columns, dtype = _header(stream, os.fstat(stream.fileno()).st_size)
        if not math.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if in_columns else "C")


def load_one(path: str | Path) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises:
        UserError, ValueError: As :func:`load`; or it is a ``.npz``.
    """
    loaded = load(path)
    if isinstance(loaded, dict):
        raise UserError(f"{path} is an archive of arrays, not one", "name it .npz")
    return loaded
