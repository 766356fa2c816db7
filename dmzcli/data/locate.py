"""Where a dataset lies, and what reads it: by a registered name, or by the path of pictures, arrays or a pack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dmzcli.data import packs, registry
from dmzcli.data.crops import Crop
from dmzcli.data.dataset import Content, Dataset, Progress, Source
from dmzcli.data.decoding import Pictures, PictureSource, read
from dmzcli.data.formats.archives import stem
from dmzcli.data.sources import arrays
from dmzcli.data.sources.edges import half
from dmzcli.data.sources.folder import pictures_of
from dmzcli.data.sources.parquet import parquet_files, parquet_pictures
from dmzcli.errors import UserError
from dmzcli.system.hdf5 import attributes

PACKS = (".h5", ".hdf5")


@dataclass(frozen=True)
class Location(ABC):
    """A dataset that is there.

    Arguments:
        name: The registered name, or the stem of the path.
        where: The file or folder.
        files: Everything that it is read from.
        side: ``A`` or ``B`` of pictures in pairs; else None.
    """

    name: str
    where: Path
    files: tuple[Path, ...]
    side: str | None

    @abstractmethod
    def load(self, crop: Crop, progress: Progress, skip_bad: bool = False) -> Dataset:
        """Reads it; the images of a pack stay on the disk until they are used.

        Raises:
            UserError: The files are damaged or foreign, or the images do not fit.
        """


@dataclass(frozen=True)
class PictureLocation(Location):
    """Files of pictures, which ``open`` gives."""

    open: Callable[[], AbstractContextManager[Pictures]]

    def load(self, crop: Crop, progress: Progress, skip_bad: bool = False) -> Dataset:
        with self.open() as pictures:
            content = read(pictures, crop, progress, skip_bad)
        return Dataset.of(self.name, content, crop.fit, self.side)


@dataclass(frozen=True)
class ArrayLocation(Location):
    """Arrays of images, which ``read`` gives."""

    read: Callable[[Crop, Progress], Content]

    def load(self, crop: Crop, progress: Progress, skip_bad: bool = False) -> Dataset:
        return Dataset.of(self.name, self.read(crop, progress), crop.fit)


@dataclass(frozen=True)
class PackLocation(Location):
    """An image pack."""

    def load(self, crop: Crop, progress: Progress, skip_bad: bool = False) -> Dataset:
        dataset = packs.read_fitted(self.where, crop)
        if self.side not in (None, dataset.side):
            raise UserError(
                f"{self.where} holds side {dataset.side or 'none'} of pairs, not {self.side}",
                "take it as it is with --set data.side=null, or name another pack",
            )
        progress(len(dataset), len(dataset))
        return dataset


def locate_source(source: Source, where: Path, side: str | None) -> Location:
    """A registered dataset.

    Raises:
        UserError: It has no sides, and one is asked for.
    """
    if not (isinstance(source, PictureSource) and source.sides):
        _no_side(source.name, side)
    if isinstance(source, PictureSource):
        return PictureLocation(
            source.name, where, source.files(where), side, partial(source.open, where, side)
        )
    return ArrayLocation(source.name, where, (where,), None, partial(source.read, where))


def locate_path(path: Path, side: str | None) -> Location:
    """A dataset by its path; what it is shows in its suffix, or in what lies in the folder.

    Raises:
        UserError: It is of arrays, and a side is asked for.
    """
    name, suffix = stem(path.resolve()), path.suffix.lower()
    if path.is_file() and suffix in PACKS:
        return PackLocation(name, path, (path,), side)
    if path.is_file() and suffix in arrays.SUFFIXES:
        _no_side(str(path), side)
        return ArrayLocation(name, path, (path,), None, lambda crop, progress: arrays.read_arrays(path, crop))
    parquet = parquet_files(path)
    opened = partial(_one_side, parquet_pictures if parquet else pictures_of, path, side)
    return PictureLocation(name, path, tuple(parquet) or (path,), side, opened)


@contextmanager
def _one_side(
    opened: Callable[[Path], AbstractContextManager[Pictures]], path: Path, side: str | None
) -> Iterator[Pictures]:
    with opened(path) as pictures:
        yield pictures if side is None else replace(pictures, window=half(side))


def has_sides(name: str) -> bool:
    """Whether a dataset is known to be of one side of pairs: a registered one of pairs, or a pack of one side."""
    if name in registry.names():
        source = registry.source_of(name)
        return isinstance(source, PictureSource) and bool(source.sides)
    file = Path(name).expanduser()
    return file.is_file() and packs.is_pack(file) and bool(attributes(file).get("side"))


def _no_side(name: str, side: str | None) -> None:
    if side is not None:
        raise UserError(
            f"{name} holds single images, and data.side asks for side {side}",
            "take them whole with --set data.side=null",
        )
