"""CelebA: 202,599 faces of celebrities, aligned, 178×218 pixels, with 40 attributes.

Z. Liu, P. Luo, X. Wang, X. Tang: Deep Learning Face Attributes in the Wild, 2015, https://arxiv.org/abs/1411.7766.
Read from the official download (``img_align_celeba/`` or its zip, ``list_attr_celeba.txt``,
``list_eval_partition.txt``, flat or below ``Img``, ``Anno`` and ``Eval``), or from Kaggle's (the same folder doubled,
the lists as CSV). The splits are official: 162,770 train, 19,867 valid, 19,962 test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from dmzcli.data.decoding import Item, Pictures, PictureSource
from dmzcli.data.formats.archives import MEMBER_BYTES, opened
from dmzcli.data.formats.celeba_lists import read_attributes, read_partition
from dmzcli.data.layout import Layout
from dmzcli.errors import UserError
from dmzcli.system.reading import read_bytes

PICTURES, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba", "list_eval_partition"
_BASES = ("", "celeba", "CelebA", "celeba-dataset")


@dataclass(frozen=True)
class _Parts:
    """Where the three parts are; None where one is missing."""

    pictures: Path | None
    attributes: Path | None
    partition: Path | None

    @classmethod
    def below(cls, base: Path) -> _Parts:
        def first(folder: str, *names: str) -> Path | None:
            paths = (base / place / name for place in ("", folder) for name in names)
            return next((path for path in paths if path.exists()), None)

        return cls(
            first("Img", f"{PICTURES}/{PICTURES}", PICTURES, f"{PICTURES}.zip"),
            first("Anno", f"{ATTRIBUTES}.txt", f"{ATTRIBUTES}.csv"),
            first("Eval", f"{PARTITION}.txt", f"{PARTITION}.csv"),
        )

    def missing(self) -> list[str]:
        parts = {
            f"{PICTURES}/": self.pictures,
            f"{ATTRIBUTES}.txt": self.attributes,
            f"{PARTITION}.txt": self.partition,
        }
        return [name for name, path in parts.items() if path is None]


class CelebA(PictureSource):
    """CelebA's aligned faces, from the official download or Kaggle's."""

    name = "celeba"
    summary = "faces of celebrities, aligned, 178×218, with 40 attributes"
    how_to_get = (
        "img_align_celeba.zip, list_attr_celeba.txt and list_eval_partition.txt of "
        "mmlab.ie.cuhk.edu.hk/projects/CelebA.html in a folder named by --data-dir"
    )
    count = 202_599

    def find(self, folders: Sequence[Path]) -> Path | None:
        partial: tuple[Path, list[str]] | None = None
        for base in (folder / name for folder in folders for name in _BASES):
            missing = _Parts.below(base).missing()
            if not missing:
                return base
            if len(missing) < 3 and partial is None:
                partial = base, missing
        if partial is not None:
            raise UserError(
                f"{partial[0]} holds only a part of CelebA: {', '.join(partial[1])} missing", self.how_to_get
            )
        return None

    def files(self, where: Path) -> tuple[Path, ...]:
        parts = _Parts.below(where)
        return tuple(path for path in (parts.pictures, parts.attributes, parts.partition) if path is not None)

    @contextmanager
    def open(self, where: Path, side: str | None = None) -> Iterator[Pictures]:
        parts = _Parts.below(where)
        if parts.pictures is None or parts.attributes is None or parts.partition is None:
            raise UserError(f"{where} holds only a part of CelebA", self.how_to_get)
        lists, attributes, codes = (
            parts.attributes,
            read_attributes(parts.attributes),
            read_partition(parts.partition),
        )

        def arrange(names: list[str]) -> Layout:
            return Layout(
                np.arange(len(names)),
                np.array([codes[name] for name in names], np.uint8),
                attributes=attributes.of(names, lists),
                attribute_names=attributes.names,
            )

        if without := len(attributes.row.keys() - codes.keys()):
            raise UserError(
                f"{parts.partition} has no split for {without:,} of the {len(attributes.row):,} pictures of {lists}",
                "the list is cut short: download it again",
            )
        arrange(list(codes))  # refuses lists that do not agree before the work
        with _readers(parts.pictures, list(codes)) as items:
            yield Pictures(parts.pictures, items, arrange, total=len(items))


@contextmanager
def _readers(pictures: Path, names: list[str]) -> Iterator[list[Item]]:
    """The pictures of these names, of a folder or of the official zip."""
    if pictures.is_dir():
        yield [_in_folder(pictures, name) for name in names]
        return
    with opened(pictures) as entries:
        if not isinstance(entries, list):
            raise UserError(f"{pictures} is not a zip archive", "download it again")
        packed = {PurePosixPath(entry.name).name: entry.read for entry in entries if not entry.folder}
        yield [Item(name, packed.get(name, _absent(pictures, name))) for name in names]


def _in_folder(folder: Path, name: str) -> Item:
    def read() -> bytes:
        return read_bytes(folder / name, MEMBER_BYTES)

    return Item(name, read)


def _absent(archive: Path, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise UserError(
            f"{archive} holds no {name}, which the list of splits names", "download the archive again"
        )

    return read
