"""``dmz compare-priors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import common


def compare_priors(
    bits: Annotated[Path | None, typer.Argument(help="A bit table; by default the newest.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="A kind to compare; repeatable. By default all of them."),
    ] = None,
    run: common.RunOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of table and plot; by default priors/ in the run.")
    ] = None,
    seed: common.SeedOption = 0,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Fit every kind of prior to a bit table and compare them on codes that they were not fitted to.

    Held-out bits per code, accuracy of telling samples from held-out codes (0.5 is ideal), copies of training codes,
    size and speed; saved as comparison.json, .md and .png, and every fitted prior beside them.
    """
    talk = common.console(quiet, as_json)
    from dmzcli import bits as bit_tables
    from dmzcli.comparison import compare, write
    from dmzcli.console import table as make_table
    from dmzcli.prior_fitting import priors_folder
    from dmzcli.runs import find_bits

    path = find_bits(bits, run)
    table = bit_tables.read(path)
    folder = out or priors_folder(table, path, run)
    talk.say(f"comparing priors on {path}: {len(table.rows('train')):,} training codes of {table.dim} bits")
    comparison = compare(table, path, kind or (), seed, folder, talk)
    write(comparison, folder)
    facts = {"comparison": str(folder / "comparison.json"), "bits": str(path), **comparison.facts()}
    sizes = f"{comparison.held_out:,} {comparison.split} codes, {comparison.samples:,} samples of each"
    title = f"{path}: {sizes}, seed {seed}"
    talk.result(facts, make_table(title, comparison.table()))
