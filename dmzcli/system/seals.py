"""Seals: behind a file whose format knows its own end, ``dmz-sha256`` and the 32 bytes of the SHA-256 of all before."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

_MARK = b"dmz-sha256"
_PIECE = 1 << 24


def seal(path: Path) -> None:
    """Seals a file that is not sealed."""
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        digest = _hashed(stream, size)
        stream.seek(size)
        stream.write(_MARK + digest)


def unbroken(stream: IO[bytes]) -> bool | None:
    """Whether the bytes of a file are those that were sealed; ``None`` where it has no seal."""
    size = stream.seek(0, os.SEEK_END) - len(_MARK) - 32
    if size < 0:
        return None
    stream.seek(size)
    tail = stream.read()
    if not tail.startswith(_MARK):
        return False if _MARK in tail else None  # cut off in the seal
    return _hashed(stream, size) == tail[len(_MARK) :]


def _hashed(stream: IO[bytes], size: int) -> bytes:
    """The SHA-256 of the first bytes of a file."""
    stream.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (piece := stream.read(min(size, _PIECE))):
        digest.update(piece)
        size -= len(piece)
    return digest.digest()
