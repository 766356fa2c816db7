"""CIFAR's Python batches, read without trusting them.

A batch is a pickled dict with ``data``, a uint8 array (N, 3072), and ``labels``, a list of N ints.
Unpickling may call any function that the file names, so the reader here knows the few names of an array
of bytes and gives each a stand-in of its own: no code of the file's choice ever runs.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from dmzcli.errors import UserError

_AGAIN = "download it again from www.cs.toronto.edu/~kriz/cifar.html, and load no batch from elsewhere"


class _Type:
    """Stands in for ``numpy.dtype``: bytes only."""

    def __init__(self, code: Any, *flags: Any) -> None:
        if code not in ("u1", b"u1", "|u1", b"|u1"):
            kind = repr(code[:20]) if isinstance(code, str | bytes) else "another"
            raise pickle.UnpicklingError(f"an array of type {kind}")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment mean nothing for bytes."""


class _Array:
    """Stands in for ``numpy.ndarray``: takes numpy's pickled state, checks it, and copies the bytes."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        sound = isinstance(kind, _Type) and isinstance(data, bytes) and isinstance(shape, tuple)
        if (
            not sound
            or len(shape) > 4
            or not all(isinstance(n, int) and 0 <= n <= len(data) for n in shape)
            or math.prod(shape) != len(data)
        ):
            raise pickle.UnpicklingError("an array whose bytes do not match its shape")
        order: Any = "F" if fortran else "C"
        self.value = np.frombuffer(data, np.uint8).reshape(shape, order=order)


class _Class:
    """Stands in for the class ``numpy.ndarray`` where a pickle names it."""


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes in the old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("text in an unexpected encoding")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Class,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle._Unpickler):
    """Knows plain containers, and the names of :data:`_ALLOWED`.

    The one that is written in Python: the other makes room for as many objects as a number in the file says.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.name = name

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UserError(f"{self.name} asks to run '{module}.{name}', which no CIFAR batch does", _AGAIN)
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise UserError(f"{self.name} refers to objects outside of it, which no CIFAR batch does", _AGAIN)


def read_batch(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads one batch.

    Arguments:
        data: The file's bytes.
        name: The file's name in errors.

    Returns:
        uint8, shape (N, 3072): 1,024 red, green and blue values per image; and int64, shape (N,).

    Raises:
        UserError: The file is truncated, is no such batch, or asks for code to run.
    """
    try:
        batch = _Unpickler(data, name).load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        pixels, given = fields["data"].value, fields["labels"]
        # A list may hold itself, or others that grow tenfold with each level.
        if not isinstance(given, list) or not all(type(label) is int for label in given):
            raise ValueError("its labels are no list of whole numbers")
        labels = np.array(given, dtype=np.int64)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged pickles raise exceptions of any type
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise UserError(f"{name} is truncated, or no CIFAR batch: {reason}", _AGAIN) from error
    if pixels.ndim != 2 or pixels.shape[1] != 3 * 32 * 32 or labels.shape != pixels.shape[:1]:
        raise UserError(
            f"{name} holds data {pixels.shape} and labels {labels.shape}, not shapes (N, 3072) and (N,)",
            _AGAIN,
        )
    return pixels, labels
