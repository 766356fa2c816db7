"""``dmz data``."""

from __future__ import annotations

import typer

from dmzcli.commands import common

app = typer.Typer(
    help="The datasets: which are here, and how to get the others.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _data() -> None:
    pass


@app.command("list")
def list_(
    data_dir: common.DataDirOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Which datasets are present, where, and how to get the others."""
    talk = common.console(quiet, as_json)
    from dmzcli.console import table
    from dmzcli.data import status

    found = status(data_dir)
    rows = [
        {
            "dataset": entry["name"],
            "present": "yes" if entry["present"] else "no",
            "where, or how to get it": entry["where"] if entry["present"] else entry["how_to_get"],
        }
        for entry in found
    ]
    talk.result({"datasets": found}, table("datasets; any folder, .zip or .tar of images works too", rows))
