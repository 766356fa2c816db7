"""NumPy's files, ``.npy`` and ``.npz``, read without believing what they announce and without running their code."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
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
        try:
            if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                return _members(stream, size, path)
            if head == b"\x93NUMPY":
                return _array(stream, size)
        except (RecursionError, OverflowError, TypeError, SyntaxError, MemoryError) as error:
            raise ValueError("its header is damaged") from error
    raise ValueError("it does not start as one")


def _members(stream: IO[bytes], size: int, path: str | Path) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with zipfile.ZipFile(stream) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            limit = reading.unpacked_limit(size)
            if sum(info.file_size for info in members) > limit:
                raise reading.too_large(f"{path}, unpacked,", limit)
            for info in members:
                with archive.open(info) as member:
                    arrays[info.filename.removesuffix(".npy")] = _array(member, info.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError("its archive is damaged") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError("its archive is damaged") from error
    return arrays


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    """An array of a stream that holds ``size`` bytes, header included."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError("it holds other things than arrays of numbers")
    shape, in_columns, dtype = _HEADERS[version](stream)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError("it holds other things than arrays of numbers")
    count = math.prod(shape)
    if any(length < 0 for length in shape) or count * dtype.itemsize > size:
        raise ValueError(f"it announces an array of shape {shape}, and holds less")
    flat = np.empty(count, dtype)
    room, start = flat.view(np.uint8).data if count else memoryview(b""), 0
    while start < len(room):
        piece = stream.read(min(_PIECE, len(room) - start))
        if not piece:
            raise ValueError("it is truncated")
        room[start : start + len(piece)] = piece
        start += len(piece)
    return flat.reshape(shape, order="F" if in_columns else "C")


def load_one(path: str | Path) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises:
        UserError, ValueError: As :func:`load`; or it is a ``.npz``.
    """
    loaded = load(path)
    if isinstance(loaded, dict):
        raise UserError(f"{path} is an archive of arrays, not one", "name it .npz")
    return loaded
