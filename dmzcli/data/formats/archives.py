"""Folders, zip and tar archives as one thing: a sequence of entries, each a relative path and its bytes.

Nothing is ever extracted.  Folders and zip archives are listed first and sorted; a tar archive is read
once, front to back, so that compressed ones cost a single pass.  Junk (hidden files, ``__MACOSX``,
thumbnail folders) never shows; an entry that points outside of its archive is refused.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dmzcli.errors import UserError
from dmzcli.system import reading
from dmzcli.system.files import user_errors

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
FILES = (".parquet", ".npz", ".npy", ".h5", ".hdf5")
"""Single files that hold a dataset."""
MEMBER_BYTES = 256 << 20
"""Most bytes of one picture's file, in a folder or an archive."""
_JUNK = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
_AGAIN = "download or pack the archive again"


@dataclass(frozen=True)
class Entry:
    """One file or folder.

    Arguments:
        name: Path below the top, with ``/`` between the parts.
        read: Gives the file's bytes; of a tar archive, only until the next entry is asked for.
        folder: Whether it is a folder (``read`` then gives nothing).
    """

    name: str
    read: Callable[[], bytes]
    folder: bool = False


def stem(path: Path) -> str:
    """The name of a folder, or of an archive or another file of images without its suffix.

    Example:
        >>> stem(Path("/data/pets.tar.xz")), stem(Path("/data/pets.v2"))
        ('pets', 'pets.v2')
    """
    for suffix in sorted(SUFFIXES + FILES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


@contextmanager
def opened(where: Path) -> Iterator[list[Entry] | Iterator[Entry]]:
    """Yields the entries of a folder or archive: a sorted list, or a one-pass iterator for a tar.

    Raises:
        UserError: The path does not exist, is no archive, is truncated or damaged (also while the block
            reads entries), is encrypted, or holds an entry that points outside of it.
    """
    with ExitStack() as stack, user_errors(where):
        try:
            if where.is_dir():
                yield sorted(_walk(where, "", frozenset()), key=lambda entry: entry.name.split("/"))
                return
            stream = stack.enter_context(reading.opened(where))
            head = stream.read(6)
            stream.seek(0)
            if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                archive = stack.enter_context(zipfile.ZipFile(stream))
                yield sorted(
                    _zip_entries(archive, where, os.fstat(stream.fileno()).st_size),
                    key=lambda entry: entry.name.split("/"),
                )
            else:
                yield _tar_entries(stack, stream, head, where)
        except (EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{where} is truncated or damaged: {error}", _AGAIN) from error
        except NotImplementedError as error:
            raise UserError(
                f"{where} uses a compression that is not read: {error}", "pack it as .tar.gz"
            ) from error
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # of a place before the file's beginning
                raise
            raise UserError(f"{where} is truncated or damaged: {error}", _AGAIN) from error


def _junk(part: str) -> bool:
    return part.startswith(".") or part.lower() in _JUNK


def _inside(name: str, where: Path) -> str | None:
    """The entry's name without ``.`` parts; None for junk and for the top itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise UserError(f"{where} holds the entry '{name}', which points outside of it", "pack it again")
    return None if not parts or any(map(_junk, parts)) else "/".join(parts)


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    """All below ``folder``; follows links to folders, except to one that it is inside of."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as listing:
        children = sorted(listing, key=lambda child: child.name)
    for child in children:
        if _junk(child.name):
            continue
        path, name = folder / child.name, f"{prefix}{child.name}"
        if child.is_dir():
            yield Entry(name, bytes, folder=True)
            yield from _walk(path, f"{name}/", above | {here})
        else:
            yield Entry(name, _file_reader(path))


def _file_reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        return reading.read_bytes(path, MEMBER_BYTES)

    return read


def _zip_entries(archive: zipfile.ZipFile, where: Path, packed: int) -> Iterator[Entry]:
    limit = reading.unpacked_limit(packed)
    if sum(info.file_size for info in archive.infolist()) > limit:
        raise reading.too_large(f"{where}, unpacked,", limit)
    for info in archive.infolist():
        if info.flag_bits & 1:
            raise UserError(f"{where} is encrypted", "unpack it, and give the folder")
        name = _inside(info.filename.replace("\\", "/"), where)
        if name is not None:
            yield Entry(name, _reader(archive, info, f"{where}/{name}"), folder=info.is_dir())


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if info.file_size > MEMBER_BYTES:
            raise reading.too_large(name, MEMBER_BYTES)
        return archive.read(info)

    return read


class _Stream:
    """The unpacked bytes of a tar archive, front to back; remembers the last 512 of them."""

    def __init__(self, stream: IO[Any], where: Path, limit: int) -> None:
        self.stream = stream
        self.where = where
        self.last = b""
        self.left = limit
        self.limit = limit

    def read(self, size: int) -> bytes:
        data: bytes = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise reading.too_large(f"{self.where}, unpacked,", self.limit)
        self.last = (self.last + data)[-512:] if len(data) < 512 else data[-512:]
        return data

    def finish(self) -> None:
        """Reads what is left: checks the checksums behind the last entry, and the end marker itself."""
        while data := self.read(1 << 20):
            if data.strip(b"\0"):
                raise UserError(f"{self.where} goes on behind the end of its tar archive", "pack it again")
        if len(self.last) < 512 or any(self.last):
            raise UserError(f"{self.where} is truncated: the end marker of a tar archive is missing", _AGAIN)


def _tar_entries(stack: ExitStack, stream: IO[bytes], head: bytes, where: Path) -> Iterator[Entry]:
    unpacked: Any = stream
    if head[:2] == b"\x1f\x8b":
        unpacked = stack.enter_context(gzip.open(stream))
    elif head[:3] == b"BZh":
        unpacked = stack.enter_context(bz2.open(stream))
    elif head == b"\xfd7zXZ\0":
        unpacked = stack.enter_context(lzma.open(stream))
    source = _Stream(unpacked, where, reading.unpacked_limit(os.fstat(stream.fileno()).st_size))
    try:
        archive = stack.enter_context(tarfile.open(fileobj=source, mode="r|"))  # type: ignore[call-overload]
    except tarfile.ReadError as error:
        raise UserError(
            f"{where} is neither a zip nor a tar archive", "give a folder, a .zip or a .tar(.gz|.bz2|.xz)"
        ) from error
    return _members(archive, source, where)


def _members(archive: tarfile.TarFile, source: _Stream, where: Path) -> Iterator[Entry]:
    while (member := _next(archive)) is not None:
        name = _inside(member.name, where)
        if name is None:
            continue
        if member.isdir():
            yield Entry(name, bytes, folder=True)
        elif member.isfile():
            yield Entry(name, _member_reader(archive, member, f"{where}/{name}"))
        elif member.issym() or member.islnk():
            yield Entry(name, lambda name=name: _refuse_link(name, where))  # type: ignore[misc]
    source.finish()


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except (ValueError, OverflowError, RecursionError, IndexError, KeyError) as error:  # of a damaged header
        raise tarfile.ReadError("a header is damaged") from error


def _member_reader(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if member.size > MEMBER_BYTES:
            raise reading.too_large(name, MEMBER_BYTES)
        stream = archive.extractfile(member)
        return b"" if stream is None else stream.read()

    return read


def _refuse_link(name: str, where: Path) -> bytes:
    raise UserError(
        f"{where}: {name} is a link to another file",
        "pack the archive with tar --dereference --hard-dereference",
    )
