"""A prior on disk: ``prior.json`` and one safetensors file, whole or absent, never a pickle.

The tensors are written first, under a name that carries their SHA-256; then ``prior.json``, which names
them, is renamed into place. That rename is the one moment at which the folder changes: a kill before it
leaves the old prior, a kill after it the new one. One process at a time writes a folder, and sweeps what was left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors.errors import PriorError
from priors.locks import alone

FORMAT = "dmz-prior"
VERSION = 1
TEMPORARY = ".tmp"
"""Folder in a prior's own in which its files take shape, under the folder's lock."""
HEADER_BYTES = 64 << 20
"""Most bytes of a ``prior.json``."""
State = dict[str, NDArray[Any]]


def part(state: State, prefix: str) -> State:
    """The arrays whose names start with ``prefix``, by the rest of their names."""
    return {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turns the file system's refusals about ``path`` into a :class:`PriorError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PriorError(f"no space left to write {path}", "free some space and run it again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise PriorError(f"no permission to use {path}", "choose another folder") from error
        if isinstance(error, FileNotFoundError):
            raise PriorError(f"{path} does not exist", "give the folder that a prior was saved to") from error
        if isinstance(error, (IsADirectoryError, NotADirectoryError, FileExistsError)):
            raise PriorError(
                f"{path} is not what was expected: {error.strerror}", "check the path"
            ) from error
        shown = str(path)[:200]
        raise PriorError(
            f"{shown} cannot be used: {error.strerror or error}", "check the path and its disk"
        ) from error


def _write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: in the folder's temporary one, flushed, then renamed."""
    temporary = path.parent / TEMPORARY / path.name
    with _refusals(path):
        temporary.parent.mkdir(exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary.parent, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what killed writers of this and of earlier versions left."""
    if (folder / TEMPORARY).exists():
        shutil.rmtree(folder / TEMPORARY)
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


def _tensor_bytes(state: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in state.items()})


def write(
    folder: Path, header: Mapping[str, Any], state: Mapping[str, NDArray[Any]], name: str = "prior"
) -> str:
    """Writes ``<name>.json`` and its tensors into ``folder``, replacing what was there at one moment.

    Returns:
        The SHA-256 of the tensors' file.

    Raises:
        PriorError: The folder cannot be written, or the disk is full.
    """
    content = _tensor_bytes(state)
    digest = hashlib.sha256(content).hexdigest()
    tensors = f"{name}-{digest[:12]}.safetensors"
    record = {"format": FORMAT, "version": VERSION, **header, "tensors": tensors, "sha256": digest}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with _refusals(folder / f"{name}.json"):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            _sweep(folder)
            _write_bytes(folder / tensors, content)
            _write_bytes(
                folder / f"{name}.json", text.encode("utf-8", "backslashreplace")
            )  # paths that are not UTF-8
            _drop_others(folder, name, tensors)
    return digest


def tidy(folder: Path, name: str = "prior") -> None:
    """Removes what a writer that was killed after its last word left in a folder whose prior is whole.

    Raises:
        PriorError: The folder cannot be read or written, or its prior is damaged.
    """
    with _refusals(folder), alone(folder):
        _sweep(folder)
        _drop_others(folder, name, read(folder, name)[0]["tensors"])


def _drop_others(folder: Path, name: str, tensors: str) -> None:
    """Removes the tensors of priors that were there before."""
    for stale in folder.glob(f"{name}-????????????.safetensors"):
        if stale.name != tensors:
            stale.unlink(missing_ok=True)


def read(folder: Path, name: str = "prior") -> tuple[dict[str, Any], State]:
    """Reads what :func:`write` wrote: the header and the tensors.

    Raises:
        PriorError: A file is missing, truncated, foreign, or of another version; names the file.
    """
    path = folder / f"{name}.json"
    text = _content(path, HEADER_BYTES)
    while True:
        try:
            return _read(folder, path, text)
        except PriorError as error:
            before, text = text, _content(path, HEADER_BYTES)
            if not isinstance(error.__cause__, FileNotFoundError) or text == before:
                raise
            # Another prior was saved meanwhile: the tensors are no longer those of the old one.


def _read(folder: Path, path: Path, text: bytes) -> tuple[dict[str, Any], State]:
    """The header, whose text is given, and its tensors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise PriorError(f"{path} is not valid JSON: {reason}", "save the prior again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise PriorError(f"{path} is not a prior: its format is not '{FORMAT}'", "check the path")
    if header.get("version") != VERSION:
        raise PriorError(
            f"{path} has version {header.get('version')!r}; expected {VERSION}", "save the prior again"
        )
    tensors = header.get("tensors")
    if not isinstance(tensors, str) or Path(tensors).name != tensors or not tensors.isprintable():
        raise PriorError(f"{path} names no tensor file beside it", "save the prior again")
    file = folder / tensors
    content = _content(file)
    if hashlib.sha256(content).hexdigest() != header.get("sha256"):
        raise PriorError(f"{file} is truncated or altered: its SHA-256 differs", "save the prior again")
    try:
        state = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise PriorError(f"{file} is not a safetensors file: {error}", "save the prior again") from error
    bad = next((key for key, a in state.items() if a.dtype.kind == "f" and bool(np.isnan(a).any())), None)
    if bad is not None:
        raise PriorError(f"{file}: {bad} holds numbers that are none (NaN)", "fit the prior again")
    return header, state


def _content(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a regular file: a FIFO or a device would be waited for, or never end."""
    with _refusals(path):
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        regular = stat.S_ISREG(os.fstat(number).st_mode)
        if not regular:
            os.close(number)
            raise PriorError(f"{path} is not a file", "give the folder that a prior was saved to")
        with os.fdopen(number, "rb") as stream:
            content = stream.read(-1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:
        raise PriorError(f"{path} is larger than {limit >> 20} MiB: no prior's header is", "check the path")
    return content
