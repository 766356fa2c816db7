"""What samples are of, where a prior is given something: in file names, in the archive and on the grid.

Image i of class c is ``images/00000i-NAME.png``, and of another image's bits ``images/00000i-of-INDEX.png``. The
archive holds ``labels`` int64 (N,) and ``label_names``, or ``source_index`` int64 (N,) and ``source_names``.
"""

from __future__ import annotations

import re

import numpy as np

from dmzcli.codes.given import Conditions
from dmzcli.system.png import grid, labelled_rows

Array = np.ndarray
GRID_IMAGES = 100
GRID_COLUMNS = 10
LONGEST = 40
"""Most letters of a class in a file name."""


def safe(name: str) -> str:
    """A class as a part of a file name.

    Example:
        >>> safe("T-shirt/top"), safe("..")
        ('T-shirt_top', '_')
    """
    return re.sub(r"[^\w-]+", "_", name)[:LONGEST] or "_"


def file_names(count: int, conditions: Conditions) -> list[str]:
    """The names of the images' files; that of image i depends on i and what it is given alone."""
    marks = [""] * count
    if conditions.labels is not None:
        marks = [f"-{safe(conditions.label_names[label])}" for label in conditions.labels]
    elif conditions.sources is not None:
        marks = [f"-of-{source}" for source in conditions.sources]
    return [f"{i:06d}{mark}.png" for i, mark in enumerate(marks)]


def arrays(conditions: Conditions) -> dict[str, Array]:
    """What the archive holds of them."""
    columns: dict[str, Array] = {}
    if conditions.labels is not None:
        columns = {"labels": conditions.labels, "label_names": np.array(conditions.label_names, np.str_)}
    if conditions.sources is not None:
        columns["source_index"] = conditions.sources
    if conditions.source_names is not None:
        columns["source_names"] = np.array(conditions.source_names, np.str_)
    return columns


def labelled_grid(images: Array, conditions: Conditions) -> Array:
    """The first images (N, H, W, C) as one picture; those of classes in rows with the classes' names."""
    if conditions.labels is None:
        return grid(images[:GRID_IMAGES])
    rows = []
    for label in dict.fromkeys(conditions.labels.tolist()):
        own = images[conditions.labels == label][:GRID_COLUMNS]
        rows.append((conditions.label_names[label], own))
    return labelled_rows(rows[: GRID_IMAGES // 2], GRID_COLUMNS)


def repetition(count: int, conditions: Conditions) -> str:
    """A remark on draws that are given the same image's bits as earlier ones; empty where there are none."""
    rows = conditions.facts.get("given_rows", count)
    if count <= rows:
        return ""
    facts = conditions.facts
    return (
        f"{facts['given_table']} has {rows:,} {facts['given_split']} images: {count - rows:,} of the {count:,} samples "
        "are given one again, with other draws"
    )
