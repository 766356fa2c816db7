"""The IDX format: a big-endian header (two zero bytes, a type code, the rank r, r sizes), then the items.

Y. LeCun, C. Cortes, C. Burges: The MNIST database, 1998, section "File formats".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from dmzcli.errors import UserError
from dmzcli.system.files import user_errors
from dmzcli.system.reading import UNPACKED_BYTES, opened, too_large

_UNSIGNED_BYTE = 0x08
_AGAIN = "download the file again"


def read_idx(path: str | Path, rank: int) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, gzipped or not (its first bytes tell).

    Arguments:
        path: The file.
        rank: The number of dimensions expected.

    Returns:
        uint8 with ``rank`` dimensions.

    Raises:
        UserError: The file is missing, truncated, longer than its header says, or no such IDX file.
    """
    path = Path(path)
    with user_errors(path), opened(path) as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not gzipped:
            return _read(stream, path, rank)
        try:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return _read(unpacked, path, rank)
        except EOFError as error:
            raise UserError(f"{path} is truncated: its gzip stream breaks off", _AGAIN) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path} is damaged: {error}", _AGAIN) from error


def _read(stream: IO[bytes] | gzip.GzipFile, path: Path, rank: int) -> np.ndarray:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise UserError(f"{path} is not an IDX file: it starts with {head.hex() or 'nothing'}", _AGAIN)
    if head[2] != _UNSIGNED_BYTE or head[3] != rank:
        raise UserError(
            f"{path} is IDX of type 0x{head[2]:02x} and {head[3]} dimensions, not unsigned bytes in {rank}",
            "check that the file has not been renamed",
        )
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise UserError(f"{path} is truncated inside its header", _AGAIN)
    shape = struct.unpack(f">{rank}I", sizes)
    count = math.prod(shape)
    data = _read_up_to(stream, min(count, UNPACKED_BYTES) + 1)
    if len(data) > UNPACKED_BYTES:
        raise too_large(f"{path}, unpacked,", UNPACKED_BYTES)
    if len(data) != count:
        much = f"{len(data):,}" if len(data) < count else "more"
        state = "truncated" if len(data) < count else "too long"
        raise UserError(f"{path} is {state}: its header announces {count:,} bytes, it holds {much}", _AGAIN)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_up_to(stream: IO[bytes] | gzip.GzipFile, limit: int) -> bytearray:
    """Reads in pieces, so that a header's lie about the size costs no memory."""
    data = bytearray()
    while len(data) < limit:
        piece = stream.read(min(1 << 22, limit - len(data)))
        if not piece:
            break
        data += piece
    return data
