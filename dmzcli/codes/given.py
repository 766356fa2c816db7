"""What priors are given: the classes of images, or the bits of the same images in another table.

The other table is, for instance, that of the other side of a dataset of pairs: p(bits of a photo | bits of its edges).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import priors
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError

LABELS = "labels"
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Given:
    """What each row of a bit table is conditioned on.

    Attributes:
        bits: uint8 (N, G).
        facts: Facts to note with the prior: ``given``, and the other table's ``given_model``.
    """

    bits: Array
    facts: dict[str, Any]


def given_rows(given: str, table: BitTable) -> Given:
    """What the rows of a table are conditioned on.

    Arguments:
        given: ``labels``, or the file of a bit table of the same images in the same order.
        table: The codes.

    Raises:
        UserError: The table has no labels, there is no such file, or its splits, positions, labels or attributes are
            of other images.
    """
    if given == LABELS:
        return Given(one_hot_labels(table), {"given": LABELS})
    path = Path(given)
    if not path.is_file():
        raise UserError(
            f"unknown --given '{given}'", "say labels, or name the file of a bit table of the same images"
        )
    other = BitTable.read(path)
    if not (np.array_equal(other.split, table.split) and np.array_equal(other.index, table.index)):
        raise UserError(
            f"{path} holds the bits of other images: {len(other.bits):,} of {other.dataset}, "
            f"not the {len(table.bits):,} of {table.dataset}",
            "its rows must be the same images with the same splits, such as the other side of the pairs",
        )
    for name in ("labels", "attributes"):
        one, two = getattr(table, name), getattr(other, name)
        if one is not None and two is not None and not np.array_equal(one, two):
            raise UserError(
                f"{path} holds the bits of other images: its {name} are not those of the table",
                "its rows must be the same images in the same order",
            )
    return Given(other.bits, {"given": str(path.absolute()), "given_model": other.model})


def suffix(given: str | None) -> str:
    """What a prior's name says of what it is given; nothing where it is given nothing."""
    return "" if given is None else f"-given-{Path(given).stem}"


def given_suffix(prior: priors.Prior) -> str:
    """The same of a fitted prior."""
    return suffix((prior.metadata.get("given") or LABELS) if prior.given_dim else None)


def one_hot_labels(table: BitTable) -> Array:
    """The labels as uint8 (N, classes), one-hot.

    Raises:
        UserError: The table has none.
    """
    if table.labels is None:
        raise UserError("the bit table has no labels", "leave --given out, or encode a labeled dataset")
    return (table.labels[:, None] == np.arange(len(table.label_names))).astype(np.uint8)


def given_draws(prior: priors.Prior, count: int, source: Path | None = None) -> tuple[Array | None, str]:
    """What to condition ``count`` draws on: uint8 (count, G), ``None`` for a prior that is given nothing; and its hash.

    Draw i gets class i mod K, or the bits of image i mod N among the other table's test images (valid where it has no
    test split, train where it has neither); so a longer run keeps the shorter one's images.

    Arguments:
        prior: Saved by :func:`dmzcli.codes.fit.fit`.
        count: Number of draws.
        source: A bit table to take instead of the one that the prior was fitted with; of the same model.

    Returns:
        The rows, and the SHA-256 of the bits that they are taken from, empty where they are from no table.

    Raises:
        UserError: The table is missing or of another model, or the prior is given no table.
    """
    given = prior.metadata.get("given") or LABELS
    if source is not None and (given == LABELS or not prior.given_dim):
        raise UserError(
            f"this prior is given {'classes' if prior.given_dim else 'nothing'}, not a bit table",
            "leave --given out, or fit one with dmz fit-prior --given TABLE",
        )
    if not prior.given_dim:
        return None, ""
    if given == LABELS:
        return np.eye(prior.given_dim, dtype=np.uint8)[np.arange(count) % prior.given_dim], ""
    path = source or Path(given)
    if not path.is_file():
        raise UserError(
            f"the prior is given the bits of {path}, which is not there",
            "put it back, or name their table with dmz sample --given",
        )
    table = BitTable.read(path)
    if table.model != prior.metadata.get("given_model"):
        raise UserError(
            f"{path} is of another model than the bits that the prior was given",
            "encode with the model that made those, or fit the prior again",
        )
    rows = next((rows for name in ("test", "valid", "train") if len(rows := table.rows(name))), None)
    if rows is None:
        raise UserError(f"{path} has no rows", "name another table with --given")
    bits = table.bits[rows]
    return bits[np.arange(count) % len(bits)], hashlib.sha256(bits.tobytes()).hexdigest()
