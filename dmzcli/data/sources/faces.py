"""CelebA-HQ and FFHQ: folders of square faces, resized to the size asked for and never cropped.

T. Karras, T. Aila, S. Laine, J. Lehtinen: Progressive Growing of GANs, 2018, https://arxiv.org/abs/1710.10196
(CelebA-HQ: 30,000 faces); C.-H. Lee et al.: MaskGAN, 2020, https://arxiv.org/abs/1907.11922 (CelebAMask-HQ, which
adds the list of attributes and the mapping to CelebA); T. Karras, S. Laine, T. Aila: A Style-Based Generator
Architecture, 2019, https://arxiv.org/abs/1812.04948 (FFHQ: 70,000 faces).

CelebA-HQ's splits are those of the CelebA pictures that its faces were made from, where the mapping is at hand. Without
it, and for FFHQ, a tenth each is held out for valid and test by the files' names, always the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from dmzcli.data.decoding import Pictures, PictureSource
from dmzcli.data.formats.celeba_lists import Attributes, read_attributes, read_mapping
from dmzcli.data.formats.picture import SUFFIXES
from dmzcli.data.layout import Layout
from dmzcli.data.sources.folder import pictures_of
from dmzcli.data.splits import TEST, TRAIN, VALID, hold_out_missing
from dmzcli.errors import UserError

MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
OFFICIAL = (162_770, 182_637, 202_599)
"""The last CelebA picture of train, valid and test."""


class Faces(PictureSource):
    """A folder of square faces, without labels."""

    folder_names: ClassVar[str]
    """How folders of this dataset are called, in small letters and digits: a regular expression for the start."""
    inner: ClassVar[tuple[str, ...]] = ()
    """Subfolders that the pictures may lie in."""

    def find(self, folders: Sequence[Path]) -> Path | None:
        for folder in folders:
            inside = sorted(folder.iterdir()) if folder.is_dir() else []
            for base in (folder, *inside):
                known = re.match(self.folder_names, re.sub(r"[^a-z0-9]", "", base.resolve().name.lower()))
                if base.is_dir() and known and _holds_pictures(self._pictures(base)):
                    return base
        return None

    def _pictures(self, base: Path) -> Path:
        return next((base / name for name in self.inner if (base / name).is_dir()), base)

    @contextmanager
    def open(self, where: Path, side: str | None = None) -> Iterator[Pictures]:
        folder = self._pictures(where)
        with pictures_of(folder) as pictures:
            yield replace(
                pictures, window=_square, arrange=lambda names: _held_out(names), notes=(_NO_SPLIT,)
            )


_NO_SPLIT = "splits: a tenth each is held out for valid and test, by the names of the files"


class Ffhq(Faces):
    """FFHQ in any resolution: ``images1024x1024/``, ``thumbnails128x128/`` or a folder named ffhq…"""

    name = "ffhq"
    summary = "square faces, up to 1024×1024"
    how_to_get = (
        "a folder ffhq of pictures from github.com/NVlabs/ffhq-dataset in a folder named by --data-dir"
    )
    count = 70_000
    folder_names = "ffhq"
    inner = ("images1024x1024", "thumbnails128x128")


class CelebaHq(Faces):
    """CelebA-HQ in any resolution, or CelebAMask-HQ with its lists."""

    name = "celeba-hq"
    summary = "square faces of celebrities, up to 1024×1024, with 40 attributes in CelebAMask-HQ"
    how_to_get = (
        "CelebAMask-HQ of github.com/switchablenorms/CelebAMask-HQ, or a folder celeba-hq of pictures, "
        "in a folder named by --data-dir"
    )
    count = 30_000
    folder_names = "celeba(mask)?hq"
    inner = ("CelebA-HQ-img",)

    def files(self, where: Path) -> tuple[Path, ...]:
        lists = (where / MAPPING, where / ATTRIBUTES)
        return (self._pictures(where), *(path for path in lists if path.exists()))

    @contextmanager
    def open(self, where: Path, side: str | None = None) -> Iterator[Pictures]:
        listed = read_attributes(where / ATTRIBUTES) if (where / ATTRIBUTES).exists() else None
        mapping = read_mapping(where / MAPPING) if (where / MAPPING).exists() else None
        note = (
            f"{_NO_SPLIT} (there is no {MAPPING})"
            if mapping is None
            else f"splits: CelebA's own, by {MAPPING}"
        )

        def arrange(names: list[str]) -> Layout:
            layout = _held_out(names)
            if mapping is not None:
                layout.split[:] = [_official(names[i], mapping, where / MAPPING) for i in layout.order]
            if listed is None:
                return layout
            values = _attributes(listed, [names[i] for i in layout.order], where / ATTRIBUTES)
            return replace(layout, attributes=values, attribute_names=listed.names)

        with super().open(where) as pictures:
            arrange([item.name for item in pictures.items])  # refuses lists that do not agree before the work
            yield replace(pictures, arrange=arrange, notes=(note,))


def _holds_pictures(folder: Path) -> bool:
    """Whether there is a picture in a folder, or in one of its subfolders (FFHQ comes in thousands)."""
    files = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return any(path.suffix.lower() in SUFFIXES for path in files)


def _square(picture: np.ndarray, name: str) -> np.ndarray:
    height, width = picture.shape[:2]
    if height != width:
        raise UserError(
            f"{name} is {width} × {height} pixels (width × height), and faces of this dataset are square",
            "restore the file, or read the folder by its path with --set data.fit=crop",
        )
    return picture


def _number(name: str) -> str | None:
    """The face's number, without leading zeros."""
    text = PurePosixPath(name).stem
    return str(int(text)) if text.isdecimal() else None


def _held_out(names: list[str]) -> Layout:
    """Rows in the order of the faces' numbers, splits by the files' names."""
    order = sorted(range(len(names)), key=lambda i: (int(_number(names[i]) or -1), names[i]))
    split = np.full(len(names), TRAIN, np.uint8)
    hold_out_missing(split, [names[i] for i in order], None)
    return Layout(np.array(order, np.int64), split)


def _official(name: str, mapping: dict[str, str], path: Path) -> int:
    """The split of the CelebA picture that a face was made from."""
    original = mapping.get(_number(name) or "")
    number = int(PurePosixPath(original).stem) if original else 0
    if not 1 <= number <= OFFICIAL[-1]:
        raise UserError(
            f"{path} has no CelebA picture for {name}", "remove the mapping, or restore the pictures' names"
        )
    return next(code for code, last in zip((TRAIN, VALID, TEST), OFFICIAL, strict=True) if number <= last)


def _attributes(listed: Attributes, names: list[str], path: Path) -> np.ndarray:
    """By the faces' numbers: the list names JPEG files, whatever the pictures are."""
    return listed.of([f"{_number(name)}.jpg" for name in names], path)
