"""A table's nearest codes to pictures or rows, and its groups of near-duplicates, with their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.analysis.search import CodeIndex, Neighbors, clusters, packed
from dmzcli.codes.encode import bits_of
from dmzcli.codes.table import BitTable
from dmzcli.data import SPLITS, Dataset
from dmzcli.errors import UserError
from dmzcli.generation.pictures import read_picture
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.png import labelled_rows

Array = np.ndarray
SHOWN = 8
"""Groups that are drawn, and images of each."""


@dataclass(frozen=True)
class Query:
    """What is searched for: its name, its image uint8 (H, W, C) if it is at hand, and its bits uint8 (D,)."""

    name: str
    image: Array | None
    bits: Array


def query_of_picture(path: Path, model: Autoencoder, fit: str) -> Query:
    """A picture file, fitted to the model's images and encoded.

    Raises:
        UserError: It is no picture, or of another size that ``fit`` does not change.
    """
    image, _ = read_picture(path, model.shape, fit)
    return Query(path.name, image, bits_of(model, image[None])[0])


def query_of_row(table: BitTable, row: int, dataset: Dataset | None) -> Query:
    """A row of the table, by its position in the dataset.

    Raises:
        UserError: The table has no such row.
    """
    at = np.flatnonzero(table.index == row)
    if not len(at):
        raise UserError(
            f"the table has no image {row}", f"its images are {table.index.min()} to {table.index.max()}"
        )
    return Query(f"image {row}", None if dataset is None else dataset.images[row], table.bits[at[0]])


def neighbors(table: BitTable, query: Query, k: int, split: str | None, engine: str | None) -> Neighbors:
    """The nearest rows of a table, or of one of its splits.

    Returns:
        Positions in the table, and distances, both (1, k).

    Raises:
        UserError: The split is empty.
    """
    rows = np.arange(len(table.bits)) if split is None else table.rows(split)
    if not len(rows):
        raise UserError("there are no codes to search among", "name another table, or another --split")
    found = CodeIndex(packed(table.bits[rows]), engine).nearest(packed(query.bits[None]), k)
    return Neighbors(rows[found.rows], found.distances)


def row_facts(table: BitTable, row: int) -> dict[str, Any]:
    """What a table says of a row."""
    facts: dict[str, Any] = {"image": int(table.index[row]), "split": SPLITS[table.split[row]]}
    if table.labels is not None:
        facts["label"] = table.label_names[table.labels[row]]
    if table.names is not None:
        facts["name"] = table.names[row]
    return facts


def neighbor_sheet(query: Query, found: Neighbors, images: Array, columns: int = 10) -> Array:
    """The query and its neighbors, each under its distance.

    Arguments:
        query: With its image.
        found: Of one query.
        images: uint8 (k, H, W, C), the neighbors'.
        columns: Images in a row.

    Returns:
        uint8 (H', W', 3).
    """
    assert query.image is not None
    rows = [(query.name, query.image[None])]
    for start in range(0, len(images), columns):
        part = slice(start, start + columns)
        distances = " ".join(map(str, found.distances[0, part]))
        rows.append((f"distances {distances}", images[part]))
    return labelled_rows(rows, columns, scale=max(1, -(-48 // images.shape[2])))


def groups(table: BitTable, radius: int) -> list[Array]:
    """Groups of two or more rows that are joined by steps of at most ``radius`` bits, the largest first.

    Returns:
        Positions in the table, ascending.
    """
    group = clusters(table.bits, radius)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return [part for part in parts if len(part) > 1]


def group_sheet(found: list[Array], table: BitTable, dataset: Dataset) -> Array:
    """The largest groups, a row each.

    Returns:
        uint8 (H', W', 3).
    """
    rows = [
        (f"{len(part):,} images", np.asarray(dataset.images[table.index[part[:SHOWN]]]))
        for part in found[:SHOWN]
    ]
    return labelled_rows(rows, SHOWN)
