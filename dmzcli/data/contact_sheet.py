"""A dataset at a glance: how many images of which kind, and a labeled sheet of some of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmzcli.data.dataset import SPLITS, Dataset, spread

ROWS = 40
"""The most rows of a sheet."""


def counts(dataset: Dataset) -> list[dict[str, Any]]:
    """Images per class and split, images with each attribute, and all: ``what``, ``train``, ``valid``, ``test``."""

    def row(what: str, chosen: np.ndarray) -> dict[str, Any]:
        numbers = np.bincount(dataset.split[chosen], minlength=len(SPLITS))
        return {"what": what, **{split: int(n) for split, n in zip(SPLITS, numbers, strict=True)}}

    rows = []
    if dataset.labels is not None:
        rows += [row(name, dataset.labels == code) for code, name in enumerate(dataset.label_names)]
    if dataset.attributes is not None:
        rows += [row(name, dataset.attributes[:, k] == 1) for k, name in enumerate(dataset.attribute_names)]
    return [*rows, row("all", np.ones(len(dataset), bool))]


def sheet(dataset: Dataset, columns: int = 10) -> np.ndarray:
    """A contact sheet: one row of images per class and its name above, or per attribute, or per split.

    Arguments:
        dataset: The dataset; its first :data:`ROWS` classes or attributes are shown, each by images evenly spread.
        columns: Images in a row.

    Returns:
        uint8 (H, W, 3).
    """
    from dmzcli.system.png import labelled_rows

    groups = _groups(dataset)[:ROWS]
    return labelled_rows(
        [(name, dataset.images[spread(rows, columns) if len(rows) else rows]) for name, rows in groups],
        columns,
    )


def _groups(dataset: Dataset) -> list[tuple[str, np.ndarray]]:
    """(name, positions of the images) of each row."""
    if dataset.labels is not None:
        groups = [
            (name, np.flatnonzero(dataset.labels == code)) for code, name in enumerate(dataset.label_names)
        ]
    elif dataset.attributes is not None:
        names = enumerate(dataset.attribute_names)
        groups = [(name, np.flatnonzero(dataset.attributes[:, k])) for k, name in names]
    else:
        groups = [(split, dataset.rows(split)) for split in SPLITS]
    return [(f"{name}: {len(rows):,}", rows) for name, rows in groups]
