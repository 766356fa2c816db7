"""What a study's folder ends with: tables as JSON and Markdown, plots, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dmzcli.reports.html import drawn, write_page
from dmzcli.studies.study.cards import Done
from dmzcli.studies.study.declaration import Study
from dmzcli.studies.study.plots import plot
from dmzcli.studies.study.tables import Table, tables
from dmzcli.system.files import atomic, markdown, write_json

FORMAT = "dmz-study"
SPREAD = (
    "Of several seeds: the mean ± the standard deviation over trainings. Of one: ± 1.96 standard errors of the "
    "measurement, which say nothing of other trainings."
)


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
