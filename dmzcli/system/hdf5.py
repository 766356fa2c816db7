"""HDF5 files that are whole or absent, of any size, in little memory, and on a disk that may be full.

HDF5 crashes the whole process where a disk is full, so it only lays the file out: groups, attributes, and columns of
bytes that are allocated but not written. The space is reserved before, and the columns are written at their offsets
by plain file operations, whose errors can be told to a user. A column that is stored in one piece can also be mapped
into memory, so that its rows are read when they are used.

A file is sealed, see :mod:`dmzcli.system.seals`, so that a damaged one is refused before HDF5, which damaged structures
can crash, sees it. HDF5 drops the seal when somebody edits the file; then the columns are still compared with the
SHA-256 of their values that each carries in the attribute ``sha256``, and the attributes with that of the root. What
others add is left alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from dmzcli.errors import Unchecked, UserError
from dmzcli.system import reading
from dmzcli.system.columns import check_size, own_column, values
from dmzcli.system.files import atomic
from dmzcli.system.seals import seal, unbroken

_STRUCTURE = 1 << 16
"""More bytes than a file's structure takes, names and attributes aside."""


CHECKSUM, COVERED = CHECKSUMS = ("sha256", "checked")
"""Attributes: the checksum; and, of the root alone, the names of those attributes that its own is of."""
_BLANK = b"0" * 64
_PIECE = 1 << 24
"""Bytes that are hashed at a time."""


@dataclass(frozen=True)
class Kind:
    """A kind of HDF5 file, which a file says itself to be in its root attributes ``format`` and ``version``.

    Arguments:
        format: The value of ``format``.
        version: The version that is written, and read.
        called: The name of such a file in errors, with its article: "a bit table".
        hint: What to do in order to have one.
    """

    format: str
    version: int
    called: str
    hint: str

    def is_of(self, path: Path) -> bool:
        """Whether a file says that it is one, of any version."""
        return str(attributes(path).get("format")) == self.format

    def facts(self) -> dict[str, Any]:
        """The root attributes that say so."""
        return {"format": self.format, "version": self.version}


def attributes(path: Path) -> dict[str, Any]:
    """The root attributes of an HDF5 file; none where it is no such file."""
    if not path.is_file():  # a FIFO would be waited for
        return {}
    try:
        with h5py.File(path, "r") as stream:
            return dict(stream.attrs)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError):
        return {}


@dataclass(frozen=True)
class Opened:
    """A file of one kind: all that is read is of one file, whatever its path names by now.

    Attributes:
        path: Its name in errors.
        kind: Its kind.
        raw: Its bytes.
        stream: The same for h5py.
        sealed: Whether they were found to be those that were written.
    """

    path: Path
    kind: Kind
    raw: BufferedReader
    stream: h5py.File
    sealed: bool

    def check(self) -> None:
        """Compares attributes and columns with their checksums; a file without them is told by a warning.

        Raises:
            UserError: One differs.
        """
        if self.sealed:
            return
        stored = self.stream.attrs.get(CHECKSUM)
        if stored is None:
            warnings.warn(
                f"{self.path} carries no checksums, being of an earlier version or of others: it is read unchecked",
                Unchecked,
                stacklevel=3,
            )
            return
        if _text(stored) != _of_attributes(self.stream):
            raise _altered(self.path, self.kind, "the attributes differ")
        for name, dataset in _columns(self.stream).items():
            self.column(name)
            check_size(self.path, dataset)
            if _text(dataset.attrs[CHECKSUM]) != self._digest(dataset):
                raise _altered(self.path, self.kind, f"the SHA-256 of /{name} differs")

    def mapped(self, name: str) -> np.ndarray:
        """A column as a read-only array whose rows are read when they are used; a copy where it lies in pieces."""
        dataset = self.column(name)
        offset, shape, dtype = dataset.id.get_offset(), dataset.shape, dataset.dtype
        if offset is None or not dataset.size or dtype.hasobject:
            return values(self.path, dataset)
        return np.memmap(self.raw, dtype, "r", offset, shape)

    def column(self, name: str) -> h5py.Dataset:
        """A column that lies in the file itself, see :func:`own_column`."""
        return own_column(self.path, self.stream, name)

    def _digest(self, dataset: h5py.Dataset) -> str:
        digest, rows = (
            hashlib.sha256(),
            max(1, _PIECE // max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:])))),
        )
        for start in range(0, len(dataset), rows):
            digest.update(np.ascontiguousarray(dataset[start : start + rows]).data)
        return digest.hexdigest()


@contextmanager
def _structure(path: Path, kind: Kind, raw: BufferedReader) -> Iterator[Opened]:
    sealed = unbroken(raw)
    if sealed is False:
        raise _altered(path, kind, "its SHA-256 differs")
    raw.seek(0)
    with h5py.File(raw, "r") as stream:
        yield Opened(path, kind, raw, stream, sealed is True)


def _altered(path: Path, kind: Kind, how: str) -> UserError:
    return UserError(f"{path} is altered: {how} from what was written", kind.hint)


@contextmanager
def opened(path: Path, kind: Kind) -> Iterator[Opened]:
    """Opens a file of one kind, and says so where the block finds it damaged.

    In the block, a :class:`KeyError` tells of a column or attribute that is missing; errors of type and value, and all
    that h5py raises where bytes are damaged, tell of a file that is not whole.

    Raises:
        UserError: The file is missing, truncated, damaged, altered, of another kind or of another version.
    """
    try:
        # HDF5's own errors do not tell a folder, or one that may not be read, and it would wait for a FIFO.
        with reading.opened(path) as raw, _structure(path, kind, raw) as file:
            if str(file.stream.attrs.get("format")) != kind.format:
                raise UserError(f"{path} is an HDF5 file, but not {kind.called}", kind.hint)
            version = file.stream.attrs.get("version")
            if version != kind.version:
                raise UserError(
                    f"{path} is {kind.called} of version {version}, not {kind.version}",
                    f"update dmz, or {kind.hint}",
                )
            yield file
    except KeyError as error:
        quoted = re.findall(r"'([^']+)'", str(error))  # the rest of HDF5's sentence is for its developers
        raise UserError(
            f"{path} lacks {quoted[-1]!r} of {kind.called}"
            if quoted
            else f"{path} lacks a part of {kind.called}",
            kind.hint,
        ) from error
    except (OSError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        name = kind.called.split(" ", 1)[1]
        # Our own checks raise ValueError; what HDF5 says is for its developers.
        own = isinstance(error, ValueError) and not str(error).startswith(_HDF5_SAYS)
        reason = str(error) if own else "it is truncated or damaged"
        raise UserError(f"{path} is no whole {name}: {reason}", kind.hint) from error


_HDF5_SAYS = ("Unable", "Can't", "Not a", "Invalid", "mmap", "buffer", "invalid literal")


@dataclass(frozen=True)
class Column:
    """A dataset of an HDF5 file.

    Arguments:
        shape: With the rows first.
        dtype: Type of its values, of fixed size.
        attributes: Attributes of the column; tuples of strings are stored as strings of variable length.
    """

    shape: tuple[int, ...]
    dtype: Any
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """What its values take."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Writer:
    """Writes rows of columns."""

    def __init__(self, stream: IO[bytes], columns: Mapping[str, Column], offsets: Mapping[str, int]) -> None:
        self._stream, self._columns, self._offsets = stream, columns, offsets
        self._digests = {name: hashlib.sha256() for name in columns}
        self._rows = dict.fromkeys(columns, 0)

    def write(self, name: str, rows: np.ndarray, start: int = 0) -> None:
        """Writes rows of one column, which begin at row ``start``: the one after those written before."""
        column = self._columns[name]
        data = np.ascontiguousarray(rows, column.dtype)
        if data.shape[1:] != column.shape[1:] or start + len(data) > column.shape[0]:
            raise ValueError(f"rows {data.shape} from {start} on do not fit /{name} of shape {column.shape}")
        if start != self._rows[name]:
            raise ValueError(f"the next row of /{name} is {self._rows[name]}, not {start}")
        self._rows[name] += len(data)
        if data.size:
            self._stream.seek(self._offsets[name] + start * data[0].nbytes)
            self._stream.write(data.data)
            self._digests[name].update(data.data)

    def digests(self) -> dict[str, str]:
        """The checksums of the columns.

        Raises:
            ValueError: Rows are missing.
        """
        for name, rows in self._rows.items():
            if rows != self._columns[name].shape[0]:
                raise ValueError(f"{rows} rows of /{name}, which has {self._columns[name].shape[0]}")
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


@contextmanager
def whole_file(path: Path, attributes: Mapping[str, Any], columns: Mapping[str, Column]) -> Iterator[Writer]:
    """Lays a file out, yields what writes its columns, and renames it onto ``path`` when the block succeeds.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    with atomic(path) as temporary:
        size = _STRUCTURE + sum(column.nbytes for column in columns.values())
        size += sum(len(repr(value)) for value in attributes.values())
        with temporary.open("r+b") as stream:
            reserve(stream, size)  # a full disk shows here, and not inside of HDF5
        offsets = _lay_out(temporary, attributes, columns)
        with temporary.open("r+b") as stream:
            reserve(stream, temporary.stat().st_size)
            writer = Writer(stream, columns, offsets)
            yield writer
        _sign(temporary, writer.digests())


def reserve(stream: IO[bytes], size: int) -> None:
    """Makes sure that ``size`` bytes of a file can be written.

    Raises:
        OSError: There is no space for them.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, size)
        return
    have = stream.seek(0, os.SEEK_END)  # what is there is written already, except where a file has holes
    while have < size:
        have += stream.write(bytes(min(1 << 22, size - have)))
    stream.flush()


def _lay_out(path: Path, attributes: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, int]:
    """Writes everything but the columns' values; gives the offset of each column."""
    offsets = {}
    with h5py.File(path, "w") as out:
        _set(out, {**attributes, COVERED: (*attributes, COVERED)})
        out.attrs.create(CHECKSUM, np.bytes_(_BLANK))
        for name, column in columns.items():
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_layout(h5py.h5d.CONTIGUOUS)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            kind, space = h5py.h5t.py_create(np.dtype(column.dtype)), h5py.h5s.create_simple(column.shape)
            dataset = h5py.Dataset(h5py.h5d.create(out.id, name.encode(), kind, space, dcpl=plan))
            _set(dataset, column.attributes)
            dataset.attrs.create(CHECKSUM, np.bytes_(_BLANK))
            offsets[name] = dataset.id.get_offset() or 0
    return offsets


def _set(thing: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if isinstance(value, tuple):
            thing.attrs.create(name, list(value), shape=(len(value),), dtype=h5py.string_dtype())
        else:
            thing.attrs[name] = value


def _sign(path: Path, digests: Mapping[str, str]) -> None:
    """Fills the checksums in, whose space is there."""
    with h5py.File(path, "r+") as out:
        for name, digest in digests.items():
            out[name].attrs.modify(CHECKSUM, np.bytes_(digest))
        out.attrs.modify(CHECKSUM, np.bytes_(_of_attributes(out)))
    seal(path)


def _columns(stream: h5py.File) -> dict[str, h5py.Dataset]:
    """The columns with a checksum; others are of whoever has added them."""
    own = [name for name in sorted(stream) if isinstance(stream.get(name, getlink=True), h5py.HardLink)]
    columns = {name: stream[name] for name in own if isinstance(stream[name], h5py.Dataset)}
    return {name: column for name, column in columns.items() if CHECKSUM in column.attrs}


def _of_attributes(stream: h5py.File) -> str:
    """The SHA-256 of the attributes that were written, and of the columns' names, shapes, types and attributes."""
    digest = hashlib.sha256()
    for name, thing in {"": stream, **_columns(stream)}.items():
        if name:
            digest.update(f"{name} {thing.shape} {thing.dtype}\n".encode())
        for key in sorted(thing.attrs if name else strings(stream, COVERED)):
            value = np.asarray(thing.attrs[key])
            text = f"{name} {key} {value.dtype.kind} {value.tolist()!r}\n"
            digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def strings(thing: Any, name: str = "names") -> tuple[str, ...]:
    """An attribute that holds strings, or none."""
    return tuple(
        text.decode() if isinstance(text, bytes) else str(text) for text in thing.attrs.get(name, ())
    )
