"""Pairs of images to interpolate between: pictures, rows of a dataset, or drawn from a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.generation.pictures import read_pictures
from dmzcli.system.randomness import stream

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images.

    Attributes:
        first, second: uint8 (P, H, W, C).
        names: What the two images of each pair are.
        dataset: Identity of their dataset, or ``pictures``.
        of: A word for file names.
        split: The split that they were drawn from; ``None`` for pairs that were named.
    """

    first: Array
    second: Array
    names: tuple[tuple[str, str], ...]
    dataset: str
    of: str
    split: str | None = None

    @classmethod
    def of_pictures(cls, first: Path, second: Path, shape: Sequence[int], fit: str) -> Pairs:
        """One pair of files, see :func:`~dmzcli.generation.pictures.read_picture`.

        Raises:
            UserError: One is no picture, or does not fit.
        """
        images, _ = read_pictures([first, second], shape, fit)
        return cls(images[:1], images[1:], ((str(first), str(second)),), "pictures", "pictures")

    @classmethod
    def of_rows(cls, dataset: Dataset, rows: Sequence[tuple[int, int]], split: str | None = None) -> Pairs:
        """Pairs of positions in a dataset.

        Raises:
            UserError: There is no such image.
        """
        most = len(dataset.images) - 1
        wrong = [row for pair in rows for row in pair if not 0 <= row <= most]
        if wrong:
            raise UserError(f"{dataset.name} has no image {wrong[0]}", f"its images are 0 to {most}")
        first, second = np.array(rows, np.int64).T
        names = tuple((f"image {a}", f"image {b}") for a, b in rows)
        images = dataset.images
        return cls(images[first], images[second], names, dataset.identity, dataset.name, split)

    @classmethod
    def drawn(cls, dataset: Dataset, split: str, count: int, seed: int) -> Pairs:
        """Pairs at random from a split, no image twice; fewer are the first of more.

        Raises:
            UserError: The split has too few images.
        """
        rows = dataset.rows(split)
        if len(rows) < 2 * count:
            raise UserError(
                f"{dataset.name} has {len(rows):,} {split} images, too few for {count:,} pairs",
                "choose another --split, or a lower --count",
            )
        chosen = stream("pairs", seed).permutation(rows)[: 2 * count].reshape(count, 2)
        return cls.of_rows(dataset, [(int(a), int(b)) for a, b in chosen], split)
