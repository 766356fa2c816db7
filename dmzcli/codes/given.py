"""What priors are given: the classes of images, or the bits of the same images in another table.

The other table is, for instance, that of the other side of a dataset of pairs: p(bits of a photo | bits of its edges).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import priors
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError, did_you_mean
from dmzcli.system.files import read_json, sha256

LABELS = "labels"
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Given:
    """What each row of a bit table is conditioned on.

    Attributes:
        bits: uint8 (N, G).
        facts: Facts to note with the prior: ``given``, and the other table's ``given_model`` and ``given_sha256``.
    """

    bits: Array
    facts: dict[str, Any]


def given_rows(given: str, table: BitTable) -> Given:
    """What the rows of a table are conditioned on.

    Arguments:
        given: ``labels``, or the file of a bit table of the same images in the same order.
        table: The codes.

    Raises:
        UserError: The table has no labels, there is no such file, or its splits, positions, labels, attributes or
            names are of other images.
    """
    if given == LABELS:
        return Given(one_hot_labels(table), {"given": LABELS, "label_names": list(table.label_names)})
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
    if table.names is not None and other.names is not None and table.names != other.names:
        row = next(
            i for i, names in enumerate(zip(table.names, other.names, strict=True)) if len({*names}) > 1
        )
        raise UserError(
            f"{path} holds the bits of other images: its row {row} is {other.names[row]}, not {table.names[row]}",
            "its rows must be the same images in the same order, by the names of their files",
        )
    digest = hashlib.sha256(f"{other.dataset} {other.model}".encode() + other.bits.tobytes()).hexdigest()
    return Given(
        other.bits,
        {"given": str(path.absolute()), "given_model": other.model, "given_sha256": digest},
    )


def suffix(given: str | None, home: Path, kinds: Iterable[str], facts: Mapping[str, Any]) -> str:
    """What a prior's name says of what it is given: the table's name, a run's for its ``bits.h5``; nothing for nothing.

    Where another table has taken the name, a digest of the table's follows.

    Arguments:
        given: ``labels``, a table's file, or ``None``.
        home: The folder of the priors.
        kinds: The kinds to be fitted.
        facts: What is noted of the table.
    """
    if given is None:
        return ""
    path = Path(given)
    in_run = given != LABELS and path.name == "bits.h5" and (path.parent / "config.json").exists()
    name = f"-given-{path.absolute().parent.name if in_run else path.stem}"
    for kind in kinds:
        card = home / f"{kind}{name}" / "prior.json"
        if card.exists():
            there = read_json(card).get("metadata", {})
            if there.get("given") != facts["given"] and there.get("given_sha256") != facts.get(
                "given_sha256"
            ):
                return f"{name}-{facts.get('given_sha256', '')[:6]}"
    return name


def given_suffix(prior: priors.Prior) -> str:
    """The same of a fitted prior."""
    if not prior.given_dim:
        return ""
    named = prior.metadata.get("given_name")  # of those before: the file's name
    return str(named or f"-given-{Path(prior.metadata.get('given') or LABELS).stem}")


def one_hot_labels(table: BitTable) -> Array:
    """The labels as uint8 (N, classes), one-hot.

    Raises:
        UserError: The table has none.
    """
    if table.labels is None:
        raise UserError("the bit table has no labels", "leave --given out, or encode a labeled dataset")
    return (table.labels[:, None] == np.arange(len(table.label_names))).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Conditions:
    """What each of ``count`` draws is conditioned on; all ``None`` for a prior that is given nothing.

    Attributes:
        bits: uint8 (count, G).
        digest: SHA-256 of the bits that they are taken from; empty where they are from no table.
        labels: The class of each draw, int64 (count,), positions in ``label_names``.
        label_names: One name per class.
        chosen: Names of the classes that were chosen; none where all come in turn.
        sources: The image of each draw in the other table's dataset, int64 (count,), by its position there.
        source_names: Their names at their source, (count,), where the table has them.
        facts: What a card says of them.
    """

    bits: Array | None = None
    digest: str = ""
    labels: Array | None = None
    label_names: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    sources: Array | None = None
    source_names: tuple[str, ...] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def given_draws(
    prior: priors.Prior, count: int, source: Path | None = None, classes: Sequence[str] = ()
) -> Conditions:
    """What to condition ``count`` draws on.

    Draw i gets the chosen classes in turn, class i mod K where none is chosen; or the bits of image i mod N among the
    other table's test images (valid where it has no test split, train where it has neither). So a longer run keeps the
    shorter one's images.

    Arguments:
        prior: Saved by :func:`dmzcli.codes.fit.fit`.
        count: Number of draws.
        source: A bit table to take instead of the one that the prior was fitted with; of the same model.
        classes: Names or numbers of classes; all where there are none.

    Raises:
        UserError: The table is missing or of another model, the prior is given no table or no classes, or there is no
            such class.
    """
    given = prior.metadata.get("given") or LABELS
    by_class = bool(prior.given_dim) and given == LABELS
    if source is not None and (by_class or not prior.given_dim):
        raise UserError(
            f"this prior is given {'classes' if by_class else 'nothing'}, not a bit table",
            "leave --given out, or fit one with dmz fit-prior --given TABLE",
        )
    if classes and not by_class:
        raise UserError(
            f"this prior is given {'a bit table' if prior.given_dim else 'nothing'}, not classes",
            "leave --class out, or fit one with dmz fit-prior --given labels",
        )
    if not prior.given_dim:
        return Conditions()
    return _classes_in_turn(prior, count, classes) if by_class else _rows_in_turn(prior, count, source)


def _classes_in_turn(prior: priors.Prior, count: int, classes: Sequence[str]) -> Conditions:
    names = class_names(prior)
    chosen = [_class(name, names) for name in classes] or list(range(len(names)))
    labels = np.array(chosen, np.int64)[np.arange(count) % len(chosen)]
    numbers = np.bincount(labels, minlength=len(names))
    per_class = {name: int(n) for name, n in zip(names, numbers, strict=True) if n}
    return Conditions(
        bits=np.eye(len(names), dtype=np.uint8)[labels],
        labels=labels,
        label_names=names,
        chosen=tuple(names[label] for label in chosen) if classes else (),
        facts={"label_names": list(names), "images_per_label": per_class},
    )


def class_names(prior: priors.Prior) -> tuple[str, ...]:
    """The names of the classes that a prior is given: its own, else its table's, else their numbers."""
    names = prior.metadata.get("label_names")
    if names is None:  # saved before priors kept them
        path = Path(str(prior.metadata.get("bits", "")))
        if path.is_file() and sha256(path) == prior.metadata.get("bits_sha256"):
            names = BitTable.read(path).label_names
    if names is None or len(names) != prior.given_dim:
        names = [str(number) for number in range(prior.given_dim)]
    return tuple(names)


def _class(name: str, names: tuple[str, ...]) -> int:
    """The position of a class by its name, or by its number where no name is that."""
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    numbers = all(known.isdecimal() for known in names)  # no number is a misspelt other one
    hint = f"classes: {', '.join(names)}" if numbers else did_you_mean(name, names, "classes")
    raise UserError(f"there is no class '{name}'", hint)


def _rows_in_turn(prior: priors.Prior, count: int, source: Path | None) -> Conditions:
    path = source or Path(prior.metadata["given"])
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
    splits = ((name, table.rows(name)) for name in ("test", "valid", "train"))
    split, rows = next(((name, rows) for name, rows in splits if len(rows)), ("", None))
    if rows is None:
        raise UserError(f"{path} has no rows", "name another table with --given")
    drawn = rows[np.arange(count) % len(rows)]
    return Conditions(
        bits=table.bits[drawn],
        digest=hashlib.sha256(table.bits[rows].tobytes()).hexdigest(),
        sources=table.index[drawn].astype(np.int64),
        source_names=None if table.names is None else tuple(table.names[row] for row in drawn),
        facts={
            "given_table": str(path),
            "given_dataset": table.dataset,
            "given_model": table.model,
            "given_split": split,
            "given_rows": len(rows),
        },
    )
