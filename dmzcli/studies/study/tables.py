"""A study's numbers as tables: one per measured quantity, seeds as error bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from dmzcli.studies.study.cards import Done
from dmzcli.studies.study.declaration import Cell, Study, short
from dmzcli.studies.study.measures import Number

SOURCES = ("bits from", "of", "prior", "sampler")
"""Names whose values say by themselves what they are."""

Place = tuple[tuple[str, str], ...]
"""Names and values that say where a number was measured."""


@dataclass(frozen=True)
class Entry:
    """A quantity at one place, over all seeds.

    Attributes:
        mean: Over the trainings.
        spread: Standard deviation over the trainings; of one, 1.96 standard errors of the measurement.
        seeds: Number of trainings.
    """

    mean: float
    spread: float
    seeds: int

    @classmethod
    def of(cls, numbers: Sequence[Number]) -> Entry:
        """The entry of one place's numbers, one of each training."""
        values = [number.value for number in numbers]
        spread = stdev(values) if len(values) > 1 else 1.96 * numbers[0].error
        return cls(fmean(values), spread, len(values))

    def text(self, seeds: int) -> str:
        """For a table; says where there are fewer trainings than ``seeds``."""
        shown = f"{self.mean:.4g} ± {self.spread:.2g}" if self.spread else f"{self.mean:.4g}"
        return shown if self.seeds == seeds else f"{shown} ({self.seeds} of {seeds})"


@dataclass(frozen=True)
class Table:
    """One quantity.

    Attributes:
        what: What it is.
        axes: Names of the rows' axes.
        entries: By the values of the axes, and by where it was measured besides.
        failed: Rows of which a training failed, and why.
        seeds: Trainings of each row, when all are there.
    """

    what: str
    axes: tuple[str, ...]
    entries: dict[tuple[Place, Place], Entry]
    failed: dict[Place, str]
    seeds: int = 1

    def rows(self) -> list[dict[str, str]]:
        """One row per combination of the axes' values, one column per place."""
        columns = list(dict.fromkeys(column for _, column in self.entries))
        # What is alike in all columns stands in none of their names.
        varied = {
            name
            for column in columns
            for name, value in column
            if any(dict(c).get(name, value) != value for c in columns)
        }

        def title(column: Place) -> str:
            shown = ", ".join(v if n in SOURCES else f"{n}={v}" for n, v in column if n in varied) or "value"
            return f"{column[0][0]} {shown}" if shown in self.axes else shown  # an axis may be called bits

        rows = []
        for row in dict.fromkeys([*(row for row, _ in self.entries), *self.failed]):
            cells = {
                title(c): self.entries[row, c].text(self.seeds) if (row, c) in self.entries else ""
                for c in columns
            }
            if row in self.failed:
                cells |= {name: text or "failed" for name, text in cells.items()}
            rows.append({**(dict(row) or {"study": "all"}), **cells})
        return rows


def tables(study: Study, done: Done) -> list[Table]:
    """One table per quantity, in the order in which they were measured."""
    cells = {cell.name: cell for cell in study.cells()}
    axes = tuple(short(axis, study.axes) for axis in study.axes)
    grouped: dict[str, dict[tuple[Place, Place], list[Number]]] = {}
    for cell in cells.values():
        for number in done.numbers.get(cell.name, ()):
            place = tuple((name, str(value)) for name, value in number.where.items())
            grouped.setdefault(number.what, {}).setdefault((_row(cell), place), []).append(number)
    failed = {_row(cells[name]): why for name, why in done.failed.items()}
    return [
        Table(
            *(what, axes, {place: Entry.of(numbers) for place, numbers in places.items()}),
            *(failed, len(study.train.seeds)),
        )
        for what, places in grouped.items()
    ]


def _row(cell: Cell) -> Place:
    return tuple(cell.labels.items())


def is_real(column: Place) -> bool:
    """Whether a column is of images that no model made."""
    return column[:1] != () and column[0][1].startswith("(")
