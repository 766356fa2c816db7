"""Folders and archives of pictures as datasets.

The rows are the pictures in the order of their paths, so a folder and every archive of it are one and the
same dataset.  Files that are no pictures by their suffix (lists, notes) are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dmzcli.data.decoding import Item, Pictures
from dmzcli.data.formats.archives import Entry, opened
from dmzcli.data.formats.picture import SUFFIXES, UNREAD
from dmzcli.data.layout import Layout, plan
from dmzcli.errors import UserError


class NoPicturesError(UserError):
    """A folder or archive without a single picture."""


@contextmanager
def pictures_of(where: Path) -> Iterator[Pictures]:
    """The pictures of a folder, ``.zip`` or ``.tar(.gz|.bz2|.xz)``, laid out as :mod:`dmzcli.data.layout` says.

    Yields:
        In the order of the listing; of a tar archive without a total, since it is read once, front to back.

    Raises:
        UserError: Nothing there, a damaged archive, or a layout without one meaning.
    """
    folders: list[str] = []

    def items(entries: Iterator[Entry] | list[Entry]) -> Iterator[Item]:
        for entry in entries:
            if entry.folder:
                folders.append(entry.name)
            elif is_picture(entry.name, where):
                yield Item(entry.name, entry.read)

    def arrange(names: list[str]) -> Layout:
        if not names:
            raise NoPicturesError(f"{where} holds no pictures", "expected files such as *.png or *.jpg in it")
        return plan(names, folders, where)

    with opened(where) as entries:
        if not isinstance(entries, list):
            yield Pictures(where, items(entries), arrange, in_turn=True)
            return
        listed = list(items(entries))
        arrange([item.name for item in listed])  # refuses a bad layout before the work
        yield Pictures(where, listed, arrange, total=len(listed))


def is_picture(name: str, where: Path) -> bool:
    """Whether a file is a picture by its suffix.

    Raises:
        UserError: It is one of a kind that is not read.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in UNREAD:
        raise UserError(f"{where}/{name} is a picture of a kind that is not read", "convert it to PNG")
    return suffix in SUFFIXES
