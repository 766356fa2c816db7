"""A dataset: N images xᵢ ∈ {0, …, 255}^{H×W×C}, each in exactly one of three disjoint splits.

A :class:`Source` knows where its files may lie and how to read them; what it reads is a
:class:`Content`, and a :class:`Dataset` is that content under a name and an identity.  A source neither
prints nor caches: the same files give the same arrays, bit for bit, in the same order.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dmzcli.data.crops import Crop
from dmzcli.data.splits import TRAIN
from dmzcli.errors import UserError, did_you_mean

SPLITS = ("train", "valid", "test")
"""The names of the splits; the position of a name is its code in bit tables."""

Progress = Callable[[int, int], None]
"""Called with (images done, images in all); the second is 0 where it is not known beforehand."""


@dataclass(frozen=True, eq=False)
class Content:
    """What a source reads: N images and all that is known about each.

    Arguments:
        images: uint8, shape (N, H, W, C), C in {1, 3}.
        split: uint8, shape (N,), 0 train, 1 valid, 2 test.
        labels: int64, shape (N,), positions in ``label_names``; None for unlabeled images.
        label_names: One name per class.
        attributes: uint8 of 0 and 1, shape (N, A); None where there are none.
        attribute_names: A names.
        lossy: Whether the images were decoded from a lossy format (JPEG).  The scores of samples against
            such images measure the compression too, and have to say so.
        names: The N names that the images have at their source; None where they have none.
        notes: Sentences that a person should know: where the splits come from, what was left out.

    Raises:
        ValueError: A shape, type or code does not fit.  Users never see this one.
    """

    images: np.ndarray
    split: np.ndarray
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    attributes: np.ndarray | None = None
    attribute_names: tuple[str, ...] = ()
    lossy: bool = False
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = self.images.shape[0] if self.images.ndim == 4 else -1
        if self.images.dtype != np.uint8 or count < 0 or self.images.shape[3] not in (1, 3):
            raise ValueError(
                f"images are {self.images.dtype} {self.images.shape}, not uint8 (N, H, W, C) with C in (1, 3)"
            )
        if min(self.images.shape[1:3]) < 1:
            raise ValueError(f"images of {self.images.shape[1:3]} have no pixels")
        if self.split.dtype != np.uint8 or self.split.shape != (count,):
            raise ValueError(f"split is {self.split.dtype} {self.split.shape}, not uint8 ({count},)")
        if count and self.split.max() >= len(SPLITS):
            raise ValueError(f"split holds the code {self.split.max()}, not 0, 1 or 2")
        if not (self.split == TRAIN).any():
            raise ValueError("no image is in the split 'train'")
        if self.names is not None and len(self.names) != count:
            raise ValueError(f"{len(self.names)} names for {count} images")
        self._check_labels(count)
        self._check_attributes(count)

    def _check_labels(self, count: int) -> None:
        if len(set(self.label_names)) != len(self.label_names):
            raise ValueError(f"label names are doubled: {self.label_names}")
        if self.labels is None:
            if self.label_names:
                raise ValueError("label names without labels")
            return
        if self.labels.dtype != np.int64 or self.labels.shape != (count,):
            raise ValueError(f"labels are {self.labels.dtype} {self.labels.shape}, not int64 ({count},)")
        if self.labels.min() < 0 or self.labels.max() >= len(self.label_names):
            raise ValueError(f"labels lie outside of 0 … {len(self.label_names) - 1}")

    def _check_attributes(self, count: int) -> None:
        if len(set(self.attribute_names)) != len(self.attribute_names):
            raise ValueError(f"attribute names are doubled: {self.attribute_names}")
        if self.attributes is None:
            if self.attribute_names:
                raise ValueError("attribute names without attributes")
            return
        shape = (count, len(self.attribute_names))
        if self.attributes.dtype != np.uint8 or self.attributes.shape != shape:
            raise ValueError(
                f"attributes are {self.attributes.dtype} {self.attributes.shape}, not uint8 {shape}"
            )
        if self.attributes.size and self.attributes.max() > 1:
            raise ValueError("attributes hold values other than 0 and 1")


@dataclass(frozen=True, eq=False)
class Dataset(Content):
    """A content under a name.

    Arguments:
        name: The registered name, or the stem of the folder or archive.
        identity: Name, size and digest, such as ``digits/8x8x1/3f9c0a51d2e4``: two datasets with one
            identity hold the same images, labels and splits in the same order.  The side of a pair and a fit other
            than "exact" stand behind the size: ``celeba/64x64x3-d2c/…``, ``edges2shoes/64x64x1-A-resize/…``.
        fit: The rule by which the pictures became squares, see :mod:`dmzcli.data.crops`.
        side: ``A`` or ``B`` of a pair; else None.
    """

    name: str = ""
    identity: str = ""
    fit: str = "exact"
    side: str | None = None

    @classmethod
    def of(cls, name: str, content: Content, fit: str = "exact", side: str | None = None) -> Dataset:
        """Names a content and computes its identity."""
        identity = identify(name, content.images.shape, digest([content.images], content), fit, side)
        return cls(**vars(content), name=name, identity=identity, fit=fit, side=side)

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, split: str) -> np.ndarray:
        """The positions of a split's images: int64, ascending, possibly none.

        Raises:
            UserError: There is no split of this name.
        """
        if split not in SPLITS:
            raise UserError(
                f"unknown split '{split}'; expected train, valid or test", did_you_mean(split, SPLITS)
            )
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)


def identify(name: str, shape: tuple[int, ...], content: str, fit: str, side: str | None) -> str:
    """The identity of a dataset of images of ``shape``, whose :func:`digest` is ``content``."""
    marks = [mark for mark in (side, fit) if mark not in (None, "exact")]
    return f"{name}/{'-'.join(['x'.join(map(str, shape[1:])), *map(str, marks)])}/{content}"


def digest(images: Iterable[np.ndarray], content: Content) -> str:
    """The first 12 hexadecimal digits of the SHA-256 over images (in pieces), labels (little-endian) and split."""
    sha = hashlib.sha256()
    for piece in images:
        sha.update(np.ascontiguousarray(piece).data)
    if content.labels is not None:
        sha.update(content.labels.astype("<i8").data)
    sha.update(content.split.tobytes())
    return sha.hexdigest()[:12]


class Source(ABC):
    """A dataset that has a name of its own. A new one implements :meth:`find` and :meth:`read`."""

    name: ClassVar[str]
    """The registered name: small letters, digits and hyphens."""
    summary: ClassVar[str]
    """One line for a person who has not heard of it: what the images are, of what size, with which labels."""
    how_to_get: ClassVar[str]
    """One line for a person who does not have the files."""
    count: ClassVar[int | None] = None
    """The number of images of the published dataset."""

    @abstractmethod
    def find(self, folders: Sequence[Path]) -> Path | None:
        """The first place in or below ``folders`` that holds this dataset; None where none does.

        Raises:
            UserError: Some of its files are there, and others are missing.
        """

    @abstractmethod
    def read(self, where: Path, crop: Crop, progress: Progress) -> Content:
        """Reads what :meth:`find` found, every image fitted by ``crop``.

        Raises:
            UserError: A file is damaged or foreign, or the images do not fit.
        """

    def download(self, folder: Path) -> None:
        """Fetches the files into ``folder`` so that :meth:`find` finds them there.

        Raises:
            UserError: There is nothing to fetch them from, or fetching failed.
        """
        raise UserError(f"{self.name} cannot be downloaded", self.how_to_get)


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of some rows, evenly spread: datasets are often sorted by class, and a prefix is no sample.

    Example:
        >>> spread(np.arange(10), 4)
        array([0, 3, 6, 9])
    """
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)]
