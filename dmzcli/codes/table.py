"""Bit tables: the codes of a dataset in one HDF5 file, readable with h5py and NumPy alone.

``/bits`` uint8 (N, ⌈D/8⌉), numpy.packbits(axis=1, bitorder="big"), attribute ``dim`` = D; ``/probs`` float16
(N, D), q(z_i = 1 | x); ``/labels`` int64 (N,) and ``/attributes`` uint8 (N, A), each with attribute ``names``;
``/names`` bytes (N,), the images' names at their source in UTF-8; ``/split`` uint8 (N,), 0 train, 1 valid, 2 test;
``/index`` int64 (N,), the row's position in the dataset.
Root attributes: format, version, dim, family, cardinalities, dataset, model, created; further ones may follow. Columns
and root have the attribute ``sha256``, see :mod:`dmzcli.system.hdf5`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.data.dataset import SPLITS
from dmzcli.errors import UserError
from dmzcli.system.columns import values
from dmzcli.system.files import sha256_of
from dmzcli.system.hdf5 import CHECKSUMS, Column, Kind, Opened, opened, strings, whole_file

Array = np.ndarray

KIND = Kind("dmz-bits", 1, "a bit table", "make a table with dmz encode")
_ROWS = 1 << 16
"""Rows that are packed at a time."""
_TYPES = {
    "bits": "u",
    "probs": "f",
    "labels": "iu",
    "attributes": "u",
    "split": "u",
    "index": "iu",
    "names": "S",
}
"""The known columns, and NumPy's letters for the types that each may have."""


@dataclass(frozen=True, eq=False)
class BitTable:
    """A bit table in memory.

    Attributes:
        bits: uint8 (N, D) of 0 and 1, unpacked.
        split: uint8 (N,).
        index: int64 (N,).
        family: The latent family.
        cardinalities: Values per latent variable, in the order of their bits.
        dataset: Identity of the dataset that was encoded.
        model: SHA-256 of the weights that encoded it.
        created: ISO 8601 time.
        probs, labels, attributes: As in the file, or ``None``.
        names: The N names that the images have at their source; ``None`` where they have none.
        facts: Further root attributes.
        sha256: SHA-256 of the file that it was read from, if it was.
    """

    bits: Array
    split: Array
    index: Array
    family: str
    cardinalities: Array
    dataset: str
    model: str
    created: str
    probs: Array | None = None
    labels: Array | None = None
    label_names: tuple[str, ...] = ()
    attributes: Array | None = None
    attribute_names: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    sha256: str | None = None

    @property
    def dim(self) -> int:
        """D."""
        return self.bits.shape[1]

    @property
    def groups(self) -> tuple[int, ...]:
        """Bits of each latent variable, in the order of the bits.

        Raises:
            UserError: The cardinalities are no powers of two, or are those of codes of another length.
        """
        values = np.atleast_1d(self.cardinalities).tolist()
        widths = tuple(int(value).bit_length() - 1 for value in values)
        if sum(widths) != self.dim or any(
            value != 1 << width for value, width in zip(values, widths, strict=True)
        ):
            raise UserError(
                f"the table's cardinalities {values[:8]} are not those of {self.dim} bits", KIND.hint
            )
        return widths

    def rows(self, split: str) -> Array:
        """Positions of a split, int64."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def prefix(self, count: int) -> BitTable:
        """The table of the first bits alone.

        Raises:
            UserError: There are fewer, or a variable would be cut.
        """
        if not 1 <= count <= self.dim:
            raise UserError(
                f"--prefix {count} is not from 1 to the table's {self.dim} bits",
                "name as many as are to be kept",
            )
        ends = np.cumsum(self.groups)
        if count not in ends:
            raise UserError(
                f"--prefix {count} cuts a variable of {self.groups[int(np.searchsorted(ends, count))]} bits",
                "end it after a whole variable",
            )
        probs = None if self.probs is None else self.probs[:, :count]
        kept = self.cardinalities[: int(np.searchsorted(ends, count)) + 1]
        return replace(self, bits=self.bits[:, :count], probs=probs, cardinalities=kept)

    @classmethod
    def read(cls, path: str | Path) -> BitTable:
        """Reads a table.

        Raises:
            UserError: The file is missing, truncated, of another kind, or inconsistent.
        """
        path = Path(path)
        with opened(path, KIND) as file:
            stream = file.stream
            facts = {
                name: value for name, value in stream.attrs.items() if name not in (*KIND.facts(), *CHECKSUMS)
            }
            columns = _columns(file)
            names = {name: strings(stream[name]) for name in columns if name in ("labels", "attributes")}
            dim = int(facts.pop("dim"))
            _check(path, dim, columns, names)
            table = cls(
                bits=np.unpackbits(columns["bits"].astype(np.uint8), axis=1, count=dim, bitorder="big"),
                split=columns["split"],
                index=columns["index"],
                family=str(facts.pop("family")),
                cardinalities=facts.pop("cardinalities"),
                dataset=str(facts.pop("dataset")),
                model=str(facts.pop("model")),
                created=str(facts.pop("created")),
                probs=columns.get("probs"),
                labels=columns.get("labels"),
                label_names=names.get("labels", ()),
                attributes=columns.get("attributes"),
                attribute_names=names.get("attributes", ()),
                facts=facts,
                names=_decoded(columns.get("names")),
                sha256=sha256_of(file.raw),
            )
            file.check()
            return table

    def write(self, path: str | Path) -> None:
        """Writes the table, whole or not at all.

        Raises:
            UserError: The disk is full, or the folder cannot be written.
        """
        count = len(self.bits)
        columns = {
            "bits": Column((count, (self.dim + 7) // 8), np.uint8, {"dim": self.dim}),
            "split": Column((count,), np.uint8),
            "index": Column((count,), np.int64),
        }
        if self.probs is not None:
            columns["probs"] = Column(self.probs.shape, np.float16)
        if self.labels is not None:
            columns["labels"] = Column((count,), np.int64, {"names": self.label_names})
        if self.attributes is not None:
            columns["attributes"] = Column(self.attributes.shape, np.uint8, {"names": self.attribute_names})
        if self.names is not None:
            names = np.array([name.encode("utf-8", "surrogateescape") for name in self.names], "S")
            columns["names"] = Column(names.shape, names.dtype)
        facts = {
            **KIND.facts(),
            "dim": self.dim,
            "family": self.family,
            "cardinalities": np.asarray(self.cardinalities, np.int64),
            "dataset": self.dataset,
            "model": self.model,
            "created": self.created,
            **self.facts,
        }
        with whole_file(Path(path), facts, columns) as out:
            for start in range(0, count, _ROWS):
                piece = self.bits[start : start + _ROWS]
                out.write("bits", np.packbits(piece, axis=1, bitorder="big"), start)
            for name in columns.keys() - {"bits", "names"}:
                out.write(name, getattr(self, name))
            if self.names is not None:
                out.write("names", names)


def is_bit_table(path: Path) -> bool:
    """Whether a file says of itself that it is a bit table."""
    return KIND.is_of(path)


def _decoded(names: Array | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(name.decode("utf-8", "surrogateescape") for name in names)


def _columns(file: Opened) -> dict[str, Array]:
    """The known columns that are there; what a later version may add is left alone."""
    columns = {}
    for name in _TYPES.keys() & file.stream.keys():
        columns[name] = values(file.path, file.column(name))
    return columns


def _check(path: Path, dim: int, columns: dict[str, Array], names: dict[str, tuple[str, ...]]) -> None:
    """Raises UserError unless the columns are of the right types and shapes, and agree."""
    packed = columns["bits"]
    if dim < 1 or packed.ndim != 2 or packed.shape[1] != (dim + 7) // 8:
        raise UserError(f"{path}: /bits has shape {packed.shape}, which does not hold {dim} bits", KIND.hint)
    widths = {"bits": packed.shape[1], "probs": dim, "attributes": len(names.get("attributes", ()))}
    for name, column in columns.items():
        shape = (len(packed), *([widths[name]] if name in widths else []))
        if column.shape != shape or column.dtype.kind not in _TYPES[name]:
            kind = {"f": "floats", "S": "bytes"}.get(_TYPES[name], "whole numbers")
            raise UserError(
                f"{path}: /{name} holds {column.dtype} of shape {column.shape}, not {kind} of shape {shape}",
                KIND.hint,
            )
    limits = {"bits": 255, "split": 2, "labels": len(names.get("labels", ())) - 1, "index": 2**63 - 1}
    for name in limits.keys() & columns.keys():
        low, high = (columns[name].min(), columns[name].max()) if columns[name].size else (0, 0)
        if columns[name].size and not 0 <= low <= high <= limits[name]:
            raise UserError(f"{path}: /{name} holds {low} to {high}, beyond 0 to {limits[name]}", KIND.hint)
