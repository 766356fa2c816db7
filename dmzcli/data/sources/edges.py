"""Pictures in pairs: A and B side by side in one file, as pix2pix has them.

P. Isola, J.-Y. Zhu, T. Zhou, A. Efros: Image-to-Image Translation with Conditional Adversarial Networks, 2017,
https://arxiv.org/abs/1611.07004. ``edges2shoes`` (49,825 + 200) and ``edges2handbags`` (138,567 + 200) are folders or
archives of ``train/*.jpg`` and ``val/*.jpg``, 512×256: edges on the left (A), the photograph on the right (B). A
dataset is one side; the two sides of one folder have the same rows, and :class:`Pairs` holds both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dmzcli.data.dataset import Dataset
from dmzcli.data.decoding import Pictures, PictureSource, Window
from dmzcli.data.formats.archives import SUFFIXES
from dmzcli.data.sources.folder import pictures_of
from dmzcli.errors import UserError

SIDES = ("A", "B")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two datasets whose rows belong together: row i of both comes from one file.

    Raises:
        UserError: Their rows do not belong together.
    """

    a: Dataset
    b: Dataset

    def __post_init__(self) -> None:
        if (
            self.a.names is None
            or self.a.names != self.b.names
            or not np.array_equal(self.a.split, self.b.split)
        ):
            raise UserError(
                f"the rows of {self.a.identity} and {self.b.identity} do not belong together",
                "take both sides of the same pictures",
            )

    def __len__(self) -> int:
        return len(self.a)


def half(side: str) -> Window:
    """What takes the left (A) or the right half (B) of a picture.

    Raises:
        UserError: There is no such side; or, in use, a picture's width is odd.
    """
    if side not in SIDES:
        raise UserError(f"unknown side '{side}'", "A is the left half of each picture, B the right one")

    def window(picture: np.ndarray, name: str) -> np.ndarray:
        width = picture.shape[1]
        if width % 2:
            raise UserError(
                f"{name} is {width} pixels wide, which is no two pictures side by side",
                "take it whole with --set data.side=null",
            )
        return picture[:, : width // 2] if side == "A" else picture[:, width // 2 :]

    return window


class Edges(PictureSource):
    """Edges and photographs, from the folder or archive of pix2pix; the edges are gray."""

    sides = SIDES

    def find(self, folders: Sequence[Path]) -> Path | None:
        for folder in folders:
            own = folder.resolve().name == self.name and (folder / "train").is_dir()
            if own:
                return folder
            for path in (folder / f"{self.name}{suffix}" for suffix in ("", *SUFFIXES)):
                if path.exists():
                    return path
        return None

    @contextmanager
    def open(self, where: Path, side: str | None = None) -> Iterator[Pictures]:
        if side is None:
            what = self.name.removeprefix("edges2")
            raise UserError(
                f"{self.name} holds pairs, and data.side says neither A nor B",
                f"--set data.side=A for the edges, --set data.side=B for the {what}",
            )
        with pictures_of(where) as pictures:
            yield replace(pictures, window=half(side), channels=1 if side == "A" else None)


class Edges2Shoes(Edges):
    """50,025 pairs."""

    name = "edges2shoes"
    summary = "pairs of edges (side A) and photographs of shoes (side B), 256×256 each"
    how_to_get = "edges2shoes.tar.gz of pix2pix, packed or unpacked, in a folder named by --data-dir"
    count = 50_025


class Edges2Handbags(Edges):
    """138,767 pairs."""

    name = "edges2handbags"
    summary = "pairs of edges (side A) and photographs of handbags (side B), 256×256 each"
    how_to_get = "edges2handbags.tar.gz of pix2pix, packed or unpacked, in a folder named by --data-dir"
    count = 138_767
