"""``dmz cache``: what lies in the cache, and ``dmz cache clean``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common

if TYPE_CHECKING:
    from rich.console import Group

    from dmzcli.data.cache import Entry

app = typer.Typer(help="List the cache, with sizes; or clean it.", invoke_without_command=True)
DaysOption = Annotated[
    float,
    typer.Option(
        "--days",
        min=0,
        callback=bounds.finite,
        help="After so many days without use a pack is no longer asked for.",
    ),
]


@app.callback()
def show(
    context: typer.Context,
    days: DaysOption = 30.0,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """List what lies in the cache, with sizes and what nobody needs any longer; dmz cache clean removes that."""
    if context.invoked_subcommand is not None:
        return
    talk = common.console(quiet, as_json)
    from dmzcli.data.cache import entries
    from dmzcli.system.files import cache_root

    found = entries(days)
    size = sum(entry.bytes for entry in found)
    facts = {"cache": str(cache_root()), "bytes": size}
    title = f"{cache_root()}: {_size(size)}"
    talk.result({**facts, "entries": [entry.facts() for entry in found]}, _table(title, found))


@app.command("clean")
def clean(
    days: DaysOption = 30.0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without this, only say what would be removed.")
    ] = False,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Remove packs that are no longer asked for, and what killed commands left; without --yes, only say what.

    Whatever is removed is made again when a command needs it. Downloads stay.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.data.cache import entries, remove
    from dmzcli.system.files import cache_root

    found = [entry for entry in entries(days) if entry.why]
    if yes:
        for entry in found:
            remove(entry)
    size = sum(entry.bytes for entry in found)
    said = "removed" if yes else "would be removed"
    facts = {"cache": str(cache_root()), "removed": yes, "bytes": size}
    title = f"{cache_root()}: {len(found)} entries, {_size(size)}, {said}"
    talk.result({**facts, "entries": [entry.facts() for entry in found]}, _table(title, found))
    if found and not yes:
        talk.say("nothing was removed; dmz cache clean --yes does it")


def _table(title: str, found: list[Entry]) -> Group | str:
    from dmzcli.commands.console import table

    rows: list[dict[str, Any]] = [
        {
            "what": entry.kind,
            "of": entry.of,
            "size": _size(entry.bytes),
            "days": f"{entry.days:.1f}",
            "no longer needed": entry.why,
            "file": str(entry.path.name),
        }
        for entry in found
    ]
    return table(title, rows) if rows else f"{title}, nothing to list"


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
