"""Folders and archives of pictures as datasets.

The rows are the pictures in the order of their paths, so a folder and every archive of it are one and the
same dataset.  A picture that cannot be read stops the load with its path; none is ever skipped.  Files
that are no pictures by their suffix (lists, notes) are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from dmzcli.data.archives import Entry, opened
from dmzcli.data.contract import Content, Progress
from dmzcli.data.decode import SUFFIXES, UNREAD, decode
from dmzcli.data.fitting import Fitting, with_channels
from dmzcli.data.layout import plan
from dmzcli.errors import UserError


class NoPicturesError(UserError):
    """A folder or archive without a single picture."""


def read_pictures(where: Path, fitting: Fitting, progress: Progress) -> Content:
    """Reads a folder or archive of pictures, laid out as :mod:`dmzcli.data.layout` says.

    Arguments:
        where: A folder, ``.zip``, or ``.tar(.gz|.bz2|.xz)``.
        fitting: How each picture becomes a square; also the channels (None: 1 if all are grey, else 3).
        progress: Its second number is 0 for tar archives, whose length is not known beforehand.

    Returns:
        The images in the order of their paths; ``lossy`` if any of them was.

    Raises:
        UserError: Nothing there, a damaged archive or picture, a layout without one meaning, or a picture
            that does not fit.
    """
    pile = _Pile(where, fitting, progress)
    with opened(where) as entries:
        if isinstance(entries, list):  # listed: refuse a bad layout before the work
            pictures = [entry.name for entry in entries if _is_picture(entry, where)]
            pile.check(pictures)
            plan(pictures, [entry.name for entry in entries if entry.folder], where)
            pile.total = len(pictures)
        pile.fill(entries)
    pile.check(pile.names)
    layout = plan(pile.names, pile.folders, where)
    progress(len(pile.names), len(pile.names))
    return Content(
        pile.stacked(layout.order), layout.split, layout.labels, layout.label_names, lossy=pile.lossy
    )


class _Pile:
    """The pictures read so far, in the order of the listing."""

    def __init__(self, where: Path, fitting: Fitting, progress: Progress) -> None:
        self.where, self.fitting, self.progress = where, fitting, progress
        self.names: list[str] = []
        self.folders: list[str] = []
        self.pictures: list[np.ndarray | None] = []
        self.channels, self.lossy, self.total = 1, False, 0

    def check(self, names: list[str]) -> None:
        if not names:
            raise NoPicturesError(
                f"{self.where} holds no pictures", "expected files such as *.png or *.jpg in it"
            )

    def fill(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.folder:
                self.folders.append(entry.name)
            elif _is_picture(entry, self.where):
                self._add(entry)
                if len(self.names) % 64 == 0:
                    self.progress(len(self.names), self.total)

    def _add(self, entry: Entry) -> None:
        name = f"{self.where}/{entry.name}"
        picture, lossy = decode(entry.read(), name)
        fitted = self.fitting.apply(picture, name)
        self.fitting = self.fitting.pinned(fitted, name)
        self.names.append(entry.name)
        self.pictures.append(fitted)
        self.channels = max(self.channels, fitted.shape[2])
        self.lossy |= lossy

    def stacked(self, order: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, C); lets go of each picture as it is copied."""
        size, channels = self.fitting.size, self.fitting.channels or self.channels
        images = np.empty((len(order), size or 0, size or 0, channels), np.uint8)
        for row, place in enumerate(order):
            picture, self.pictures[place] = self.pictures[place], None
            images[row] = with_channels(picture, channels) if picture is not None else 0
        return images


def _is_picture(entry: Entry, where: Path) -> bool:
    suffix = PurePosixPath(entry.name).suffix.lower()
    if not entry.folder and suffix in UNREAD:
        raise UserError(f"{where}/{entry.name} is a picture of a kind that is not read", "convert it to PNG")
    return not entry.folder and suffix in SUFFIXES
