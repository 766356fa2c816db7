"""A study's numbers as tables and plots: one table per measured quantity, seeds as error bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from dmzcli.reports.html import drawn, write_page
from dmzcli.studies.study.declaration import Cell, Study, short
from dmzcli.studies.study.loop import Done
from dmzcli.studies.study.measures import Number
from dmzcli.system.files import atomic, markdown, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "dmz-study"
SPREAD = (
    "Of several seeds: the mean ± the standard deviation over trainings. Of one: ± 1.96 standard errors of the "
    "measurement, which say nothing of other trainings."
)
SOURCES = ("bits from", "of", "prior", "sampler")
"""Names whose values say by themselves what they are."""
MOST_LINES = 10
"""Lines of a plot that colors can tell apart."""

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

    def text(self) -> str:
        """For a table."""
        return f"{self.mean:.4g} ± {self.spread:.2g}" if self.spread else f"{self.mean:.4g}"


@dataclass(frozen=True)
class Table:
    """One quantity.

    Attributes:
        what: What it is.
        axes: Names of the rows' axes.
        entries: By the values of the axes, and by where it was measured besides.
        failed: Rows of which a training failed, and why.
    """

    what: str
    axes: tuple[str, ...]
    entries: dict[tuple[Place, Place], Entry]
    failed: dict[Place, str]

    def rows(self) -> list[dict[str, str]]:
        """One row per combination of the axes' values, one column per place."""
        columns = list(dict.fromkeys(column for _, column in self.entries))
        # What is alike in all columns stands in none of their names.
        varied = {
            name
            for column in columns
            for name, value in column
            if any(dict(c).get(name) != value for c in columns)
        }

        def title(column: Place) -> str:
            shown = ", ".join(v if n in SOURCES else f"{n}={v}" for n, v in column if n in varied) or "value"
            return f"{column[0][0]} {shown}" if shown in self.axes else shown  # an axis may be called bits

        rows = []
        for row in dict.fromkeys([*(row for row, _ in self.entries), *self.failed]):
            cells = {
                title(c): self.entries[row, c].text() if (row, c) in self.entries else "" for c in columns
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
        Table(what, axes, {place: Entry.of(numbers) for place, numbers in places.items()}, failed)
        for what, places in grouped.items()
    ]


def _row(cell: Cell) -> Place:
    return tuple(cell.labels.items())


def write(study: Study, done: Done, out: Path, by: str | None = None) -> list[Table]:
    """Writes ``study.json``, ``study.md``, ``study.html`` and one plot per table.

    Arguments:
        study: The study.
        done: What there is of it.
        out: The folder.
        by: Name along the plots' horizontal axis: an axis, or where numbers were measured, as T or ``bits from``;
            by default the first that is a number.

    Returns:
        The tables.
    """
    made = tables(study, done)
    plots = {table.what: figure for table in made if (figure := plot(table, by)) is not None}
    note = _note(done, len(study.cells()))
    _write_json(study, done, out)
    with atomic(out / "study.md") as temporary:
        temporary.write_text(_markdown(study, made, note), encoding="utf-8")
    for position, figure in enumerate(plots.values()):
        with atomic(out / f"study-{position + 1}.png") as temporary:
            figure.savefig(temporary, format="png")
    sections = [
        {"what": t.what, "rows": t.rows(), "plot": drawn(plots[t.what]) if t.what in plots else None}
        for t in made
    ]
    write_page(
        out / "study.html",
        "study.html",
        title=study.title,
        question=study.question,
        sections=sections,
        note=note,
        spread=SPREAD,
        failed=[{"cell": name, "why": why} for name, why in done.failed.items()],
    )
    return made


def _write_json(study: Study, done: Done, out: Path) -> None:
    cells = [
        {
            "cell": cell.name,
            "labels": dict(cell.labels),
            "training_seed": cell.seed,
            "failed": done.failed.get(cell.name),
            "numbers": [vars(number) for number in done.numbers.get(cell.name, ())],
        }
        for cell in study.cells()
    ]
    facts = {
        "format": FORMAT,
        "version": 1,
        "study": study.model_dump(mode="json"),
        "missing": list(done.missing),
    }
    write_json(out / "study.json", {**facts, "cells": cells})


def _note(done: Done, count: int) -> str:
    parts = [f"{len(done.numbers)} of {count} cells are measured"]
    if done.failed:
        parts.append(f"{len(done.failed)} failed")
    if done.missing:
        parts.append(f"{len(done.missing)} are still to come")
    return ", ".join(parts) + "."


def _markdown(study: Study, made: Sequence[Table], note: str) -> str:
    lines = [
        f"# {study.title}",
        "",
        *([study.question, ""] if study.question else []),
        f"{note} {SPREAD}",
        "",
    ]
    for table in made:
        lines += [f"## {table.what}", "", markdown(table.rows())]
    return "\n".join(lines)


def plot(table: Table, by: str | None = None) -> Figure | None:
    """A quantity along one of its names, a line for each combination of the others; ``None`` where none varies."""
    from matplotlib.figure import Figure

    points: list[tuple[dict[str, str], Entry]] = [
        ({**dict(row), **dict(column)}, entry) for (row, column), entry in table.entries.items()
    ]
    values: dict[str, list[str]] = {}
    for names, _ in points:
        for name, value in names.items():
            values.setdefault(name, [])
            if value not in values[name]:
                values[name].append(value)
    varied = [name for name in values if len(values[name]) > 1]
    if not varied:
        return None
    along = by if by in varied else next((n for n in varied if all(map(_is_number, values[n]))), varied[0])
    lines: dict[str, list[tuple[str, Entry]]] = {}
    for names, entry in points:
        rest = ", ".join(
            f"{n}={v}" if n not in SOURCES else v for n, v in names.items() if n in varied and n != along
        )
        lines.setdefault(rest, []).append((names.get(along, ""), entry))
    figure = Figure(figsize=(7.5, 4 + 0.12 * len(lines)), dpi=110, layout="constrained")
    axes = figure.subplots()
    numeric = all(map(_is_number, values[along]))
    for position, (label, entries) in enumerate(lines.items()):
        x = [float(value) if numeric else values[along].index(value) for value, _ in entries if value]
        kept = [entry for value, entry in entries if value]
        order = sorted(range(len(x)), key=x.__getitem__)
        axes.errorbar(
            [x[i] for i in order],
            [kept[i].mean for i in order],
            [kept[i].spread for i in order],
            marker="osD^v"[position // MOST_LINES % 5],
            linestyle="-" if numeric else "none",
            capsize=2,
            label=label or None,
        )
    if numeric:
        ticks = sorted(float(value) for value in values[along])
        if ticks[0] > 0 and ticks[-1] / ticks[0] >= 8:
            axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    else:
        axes.set_xticks(range(len(values[along])), values[along])
    axes.set(xlabel=along, ylabel=table.what)
    axes.grid(alpha=0.3)
    if any(lines):
        figure.legend(loc="outside lower center", fontsize="small", ncols=2)
    return figure


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
