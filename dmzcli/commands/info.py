"""``dmz info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import options as common


def info(
    path: Annotated[
        Path,
        typer.Argument(help="A run directory, bit table, image pack, prior's folder, weights, or samples."),
    ],
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Print what a run, bit table, image pack, prior, weights file or folder of samples is."""
    talk = common.console(quiet, as_json)
    from dmzcli.reports.describe import describe, lines

    facts = describe(path)
    talk.result(facts, lines(facts))
