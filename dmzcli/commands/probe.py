"""``dmz probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import options as common


def probe(
    bits: Annotated[Path | None, typer.Argument(help="A bit table; by default the newest.")] = None,
    run: common.RunOption = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    skip_bad: common.SkipBadOption = False,
    baselines: Annotated[
        bool,
        typer.Option("--baselines/--no-baselines", help="Also probe pixels and an untrained encoder's bits."),
    ] = True,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Classification accuracy of a bit table: logistic regression, fitted on train, chosen on valid, reported on test.

    Beside it stand two baselines: the pixels, and the bits of the same encoder untrained.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.codes.find import find_bits, owner_of
    from dmzcli.codes.table import BitTable
    from dmzcli.data import SPLITS
    from dmzcli.errors import UserError
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    path = find_bits(bits, run)
    table = BitTable.read(path)
    if run is not None:
        find_run(run).check_made(path, table.model)
    from dmzcli.analysis.probes.table import probe_table, write_probes
    from dmzcli.system.devices import pick

    owner = owner_of(path, table.model)
    if remark := owner.remark(path, table.dataset):
        talk.say(remark)
    keeper = find_run(run) if run else owner.run
    source = keeper if baselines else None
    if keeper is not None:
        common.tell_stopped(talk, keeper)
    dataset = config = None
    if source is not None:
        config = source.config
        given = common.data_flags(data_dir, skip_bad)
        dataset = common.load_dataset(talk, images_for(source, None, settings or (), given))
    elif baselines:
        talk.say(f"no run has the weights that made {path}: probing its bits alone")
    talk.say(f"probing {path}: {len(table.bits):,} codes of {table.dim} bits")
    probes = probe_table(table, dataset, config, pick(device), talk)
    rows = {split: len(table.rows(split)) for split in SPLITS}
    facts = {"bits": str(path), "dataset": table.dataset, "rows": rows, "probes": [p.facts() for p in probes]}
    if keeper is not None:
        try:
            write_probes(keeper.path / "evaluation" / f"probe-{path.stem}.json", table, facts)
        except UserError as error:  # a run that others own is read, too
            talk.say(f"the run does not keep this result: {error.message}")
    from dmzcli.commands.console import table as make_table

    shown = [
        {
            "representation": p.name,
            "features": p.features,
            "test accuracy": p.test_accuracy,
            "valid accuracy": p.valid_accuracy,
            "C": p.inverse_strength,
            "converged": "yes" if p.converged else "no",
        }
        for p in probes
    ]
    sizes = f"fitted on {rows['train']:,}, chosen on {rows['valid']:,}, tested on {rows['test']:,} images"
    title = f"logistic probes, {sizes}"
    talk.result(facts, make_table(title, shown))
