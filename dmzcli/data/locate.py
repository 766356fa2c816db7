"""Where a dataset lies, and what reads it: by a registered name, or by the path of pictures, arrays or a pack."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dmzcli.data.crops import Fitting
from dmzcli.data.dataset import Content, Dataset, Progress, Source
from dmzcli.data.decoding import Pictures, PictureSource
from dmzcli.data.formats.archives import stem
from dmzcli.data.sources import arrays
from dmzcli.data.sources.edges import half
from dmzcli.data.sources.folder import pictures_of
from dmzcli.data.sources.parquet import parquet_files, parquet_pictures
from dmzcli.errors import UserError

PACKS = (".h5", ".hdf5")


def cache_root() -> Path:
    """``$DMZ_CACHE``, or ``~/.cache/dmz``."""
    root = os.environ.get("DMZ_CACHE")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "dmz"


@dataclass(frozen=True)
class Found:
    """A dataset that is there.

    Arguments:
        name: The registered name, or the stem of the path.
        where: The file or folder.
        files: Everything that it is read from.
        side: Of a pair; else None.
        open: Its pictures, for a dataset of picture files.
        read: Its content, for one of arrays.
    """

    name: str
    where: Path
    files: tuple[Path, ...]
    side: str | None = None
    open: Callable[[], AbstractContextManager[Pictures]] | None = None
    read: Callable[[Fitting, Progress], Content] | None = None

    @property
    def pack(self) -> bool:
        """Whether it is an image pack."""
        return self.open is None and self.read is None

    def load(self, fitting: Fitting, report: Progress) -> Dataset:
        """A dataset of arrays, or a pack.

        Raises:
            UserError: The files are damaged or foreign, or the images do not fit.
        """
        from dmzcli.data import packs

        if self.read is not None:
            return Dataset.of(self.name, self.read(fitting, report), fitting.fit)
        dataset = packs.read_fitted(self.where, fitting)
        if self.side not in (None, dataset.side):
            raise UserError(
                f"{self.where} holds side {dataset.side or 'none'} of pairs, not {self.side}",
                "leave data.side empty, or name another pack",
            )
        report(len(dataset), len(dataset))
        return dataset


def at_source(source: Source, where: Path, side: str | None) -> Found:
    """A registered dataset.

    Raises:
        UserError: It has no sides, and one is asked for.
    """
    if not isinstance(source, PictureSource):
        _no_side(source.name, side)
        return Found(source.name, where, (where,), read=partial(source.read, where))
    if not source.sides:
        _no_side(source.name, side)
    return Found(source.name, where, source.files(where), side, partial(source.open, where, side))


def at_path(path: Path, side: str | None) -> Found:
    """A dataset by its path; what it is shows in its suffix, or in what lies in the folder.

    Raises:
        UserError: It is of arrays, and a side is asked for.
    """
    name, suffix = stem(path.resolve()), path.suffix.lower()
    if path.is_file() and suffix in PACKS:
        return Found(name, path, (path,), side)
    if path.is_file() and suffix in arrays.SUFFIXES:
        _no_side(str(path), side)
        return Found(name, path, (path,), read=lambda fitting, report: arrays.read_arrays(path, fitting))
    parquet = parquet_files(path)
    if parquet:
        return Found(name, path, tuple(parquet), side, partial(_one_side, parquet_pictures, path, side))
    return Found(name, path, (path,), side, partial(_one_side, pictures_of, path, side))


@contextmanager
def _one_side(
    opened: Callable[[Path], AbstractContextManager[Pictures]], path: Path, side: str | None
) -> Iterator[Pictures]:
    with opened(path) as pictures:
        yield pictures if side is None else replace(pictures, window=half(side))


def _no_side(name: str, side: str | None) -> None:
    if side is not None:
        raise UserError(
            f"{name} holds single images, and data.side asks for side {side}", "leave data.side empty"
        )
