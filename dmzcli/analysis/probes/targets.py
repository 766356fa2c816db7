"""What is read: the class of a row, or its binary attributes. Targets know no head, and heads no target."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError, did_you_mean

Array = np.ndarray
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Target:
    """Values of 0 and 1.

    Attributes:
        name: ``labels`` or ``attributes``.
        values: uint8 (N, K), a column per class or attribute.
        names: The K names.
        exclusive: Whether the columns are classes, of which each row has one.
        left_out: Attributes that are constant in a split, and so cannot be measured.
    """

    name: str
    values: Array
    names: tuple[str, ...]
    exclusive: bool
    left_out: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        """What a probe of it is measured by."""
        return "accuracy" if self.exclusive else "AUROC"


def labels_of(table: BitTable, rows: dict[str, Array]) -> Target:
    """The classes of a table.

    Raises:
        UserError: There are none, a split is empty, or has a single class.
    """
    if table.labels is None:
        raise UserError("the bit table has no labels", "probe the table of a labeled dataset")
    check_splits(rows)
    for split in SPLITS:
        if len(np.unique(table.labels[rows[split]])) < 2:
            which = "training images" if split == "train" else f"images of the split '{split}'"
            raise UserError(f"all {which} have one label", "a probe needs at least two classes")
    values = np.eye(len(table.label_names), dtype=np.uint8)[table.labels]
    return Target("labels", values, table.label_names, exclusive=True)


def attributes_of(table: BitTable, rows: dict[str, Array]) -> Target:
    """The attributes of a table that have both values in every split.

    Raises:
        UserError: There are none, or a split is empty.
    """
    if table.attributes is None or not table.attribute_names:
        raise UserError("the bit table has no attributes", "probe the table of a dataset with attributes")
    check_splits(rows)
    means = np.stack([table.attributes[rows[split]].mean(0) for split in SPLITS])
    varied = ((means > 0) & (means < 1)).all(0)
    names = np.array(table.attribute_names)
    if not varied.any():
        raise UserError(
            "every attribute of the bit table is constant in one of its splits",
            "a probe needs attributes that are 0 in some images of each split, and 1 in others",
        )
    return Target(
        "attributes",
        np.ascontiguousarray(table.attributes[:, varied]),
        tuple(names[varied].tolist()),
        exclusive=False,
        left_out=tuple(names[~varied].tolist()),
    )


MAKERS = {"labels": labels_of, "attributes": attributes_of}


def chosen_targets(table: BitTable, rows: dict[str, Array], names: list[str] | None = None) -> list[Target]:
    """The named targets of a table; without names, all that it has.

    Raises:
        UserError: It has neither labels nor attributes, a name is unknown, or a target is no task.
    """
    if names is None:
        there = {"labels": table.labels, "attributes": table.attributes}
        names = [name for name, values in there.items() if values is not None]
        if not names:
            raise UserError(
                "the bit table has no labels and no attributes", "probe the table of a labeled dataset"
            )
    for name in names:
        if name not in MAKERS:
            raise UserError(f"unknown target '{name}'", did_you_mean(name, MAKERS, "targets"))
    return [MAKERS[name](table, rows) for name in names]


def check_splits(rows: dict[str, Array]) -> None:
    """Raises UserError where a split is empty."""
    for split in SPLITS:
        if not len(rows[split]):
            raise UserError(
                f"the split '{split}' is empty", "a probe is fitted on train, chosen on valid, tested on test"
            )


def elsewhere(target: Target, table: BitTable, rows: Array) -> tuple[Target, Array]:
    """The same target on rows of another table: what of it can be measured there, and its values (M, K).

    Raises:
        UserError: The other table's classes or attributes are others, or its rows are none or of one value.
    """
    if not len(rows):
        raise UserError("the split 'test' of the other table is empty", "encode a dataset with test images")
    if target.exclusive:
        if table.labels is None or table.label_names != target.names:
            raise UserError(
                f"the classes of the other table are {_listed(table.label_names)}, not {_listed(target.names)}",
                "test on a table of the same classes, or probe attributes with --targets attributes",
            )
        return target, np.eye(len(target.names), dtype=np.uint8)[table.labels[rows]]
    known = {name: k for k, name in enumerate(table.attribute_names)} if table.attributes is not None else {}
    values = {name: table.attributes[rows, known[name]] for name in target.names if name in known}  # type: ignore[index]
    kept = [name for name, column in values.items() if 0 < column.mean() < 1]
    if not kept:
        raise UserError(
            f"the other table has none of the attributes {_listed(target.names)} with both values in test",
            "test on a table of the same attributes, or probe classes with --targets labels",
        )
    columns = [target.names.index(name) for name in kept]
    dropped = tuple(name for name in target.names if name not in kept)
    chosen = replace(
        target, values=target.values[:, columns], names=tuple(kept), left_out=target.left_out + dropped
    )
    return chosen, np.stack([values[name] for name in kept], axis=1)


def _listed(names: tuple[str, ...]) -> str:
    return (
        ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "none"
    )
