"""``dmz study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common

if TYPE_CHECKING:
    from dmzcli.studies.study import Done


def study(
    file: Annotated[
        Path, typer.Argument(help="The study, in TOML; see examples/studies.", metavar="FILE.toml")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            callback=bounds.new_folder,
            help="Folder of runs and tables; by default studies/<file's name>.",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="What the plots run along: an axis, T, sampler, 'bits from'; by default the first of numbers.",
        ),
    ] = None,
    list_cells: Annotated[
        bool, typer.Option("--list", help="Print the cells and what is done, and stop.")
    ] = False,
    max_hours: Annotated[
        float | None,
        typer.Option(
            "--max-hours",
            min=0,
            callback=bounds.finite,
            help="Begin no training after so many hours, and end one; go on later.",
        ),
    ] = None,
    settings: common.SetOption = None,
    data_dir: common.DataDirOption = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Train and measure every cell of a study, and write its tables and plots; the same command again resumes.

    Each cell is a run directory of its own. The command may run several times at once, under torchrun or as a job
    array: each process takes the next cell that nobody is making.
    """
    talk = common.console(quiet, as_json)
    import functools

    from rich.console import Group

    from dmzcli.commands.console import table as make_table
    from dmzcli.errors import UserError
    from dmzcli.studies.study import Cards, prepare, read_study, run_study
    from dmzcli.studies.study.page import SPREAD, write
    from dmzcli.system import processes

    declared = read_study(file, settings or ())
    folder = out or Path("studies") / file.stem
    device = processes.apart(device)
    load = functools.lru_cache(maxsize=1)(lambda data: common.load_dataset(talk, data))
    if list_cells:
        done = Cards(declared, prepare(declared, load, data_dir), folder).gather()
        cells = [{"cell": cell.name, "state": _state(cell.name, done)} for cell in declared.cells()]
        talk.result(
            {"study": str(file), "folder": str(folder), "cells": cells}, make_table(declared.title, cells)
        )
        return
    talk.say(f"{declared.title}: {len(declared.cells())} cells into {folder}")
    done = run_study(
        *(declared, folder, load, device, max_hours, data_dir, batch_size, talk),
        progress=lambda so_far: write(declared, so_far, folder, by),
    )
    made = write(declared, done, folder, by)
    facts = {
        "study": str(folder / "study.json"),
        "page": str(folder / "study.html"),
        "cells": len(declared.cells()),
        "measured": len(done.numbers),
        "missing": list(done.missing),
        "failed": done.failed,
        "tables": [{"what": each.what, "rows": each.rows()} for each in made],
    }
    if done.missing:
        talk.say(f"{len(done.missing)} cells are still to come; the same command goes on")
    if made:
        talk.say(SPREAD)
    shown = Group(*(make_table(each.what, each.rows()) for each in made))
    talk.result(facts, shown if made else None)
    if done.failed:
        name, why = next(iter(done.failed.items()))
        raise UserError(
            f"{len(done.failed)} of {len(declared.cells())} cells failed, the first {name}: {why}",
            "the tables hold the others; the same command tries those again",
        )


def _state(name: str, done: Done) -> str:
    """Where a cell is."""
    if name in done.failed:
        return f"failed: {done.failed[name]}"
    return "measured" if name in done.numbers else "to come"
