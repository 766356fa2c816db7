"""``dmz encode``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common

if TYPE_CHECKING:
    from dmzcli.commands.console import Console
    from dmzcli.config import DataConfig
    from dmzcli.runs import Run


def encode(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(help="The dataset to encode; by default the one that the run was trained on."),
    ] = None,
    run: common.RunOption = None,
    pair: common.PairOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_file, help="The table's file; by default bits.h5 in the run."
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="mode: the most probable bits; sample: a draw from q(z|x).")
    ] = "mode",
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    download: common.DownloadOption = False,
    skip_bad: common.SkipBadOption = False,
    batch_size: common.BatchSizeOption = None,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Encode a dataset into a bit table (HDF5); the same command again resumes."""
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError, did_you_mean

    if mode not in ("mode", "sample"):
        raise UserError(f"unknown --mode '{mode}'", did_you_mean(mode, ["mode", "sample"], "modes"))
    flags = common.data_flags(data_dir, skip_bad)
    from dmzcli.runs.plan import images_for
    from dmzcli.system import processes

    if pair is None:
        from dmzcli.runs.find import find_run

        chosen = find_run(run, dataset if run is None else None, lambda found: found.config.model.dim > 0)
        data = images_for(chosen, dataset, settings or (), flags)
        where = processes.join(device)
        facts, text = _encode(talk, chosen, data, download, out, mode, seed, batch_size, where)
        talk.result(facts, text)
        return
    common.refuse(context, ("run", "out"), "with --pair, which writes the tables of both runs")
    from dmzcli.codes.pair import check_tables
    from dmzcli.runs.pair import SIDES, find_pair

    found, sides, texts = find_pair(pair), {}, []
    where = processes.join(device)
    for side, chosen in zip(SIDES, (found.a, found.b), strict=True):
        # Whatever holds pairs is cut, as it is for the pair's own runs.
        own = [] if chosen.config.data.side is None else [f"data.side={side}"]
        data = images_for(chosen, dataset, [*own, *(settings or ())], flags)
        sides[side], text = _encode(talk, chosen, data, download, None, mode, seed, batch_size, where)
        texts.append(text)
    check_tables(found)
    talk.result({"pair": found.name, **sides}, "\n".join(texts))


def _encode(
    talk: Console,
    chosen: Run,
    data: DataConfig,
    download: bool,
    out: Path | None,
    mode: str,
    seed: int,
    batch_size: int | None,
    device: Any,
) -> tuple[dict[str, Any], str]:
    """Encodes a dataset with one run: the facts, and a line for a person."""
    if data.side is None and chosen.config.data.side is not None:
        talk.say(f"{data.dataset} is taken whole, as side {chosen.config.data.side} of the run's pairs")
    from dmzcli.codes.encode import encode as encode_images
    from dmzcli.codes.find import remember_table
    from dmzcli.errors import UserError
    from dmzcli.system import processes

    common.tell_stopped(talk, chosen)
    model = chosen.load_model(device)
    images = common.load_dataset(talk, data, download)
    file = out or chosen.bits
    talk.say(f"encoding {images.identity} with {chosen.path} into {file}")
    done = encode_images(model, images, file, chosen.weights_hash, mode, seed, batch_size or 512, talk)  # type: ignore[arg-type]
    table = done.table
    if file != chosen.bits and processes.main():
        try:
            remember_table(chosen, file)
        except UserError as error:  # a run that others own is read, too
            talk.say(f"the run does not note where this table is: {error.message}")
    facts = {"bits": str(file), "run": str(chosen.path), "rows": len(table.bits), "dim": table.dim}
    facts |= {"dataset": table.dataset, "mode": mode, "mean_bit": float(table.bits.mean())}
    facts |= {"seconds": done.seconds, "resumed_rows": done.resumed_rows, "reused": done.reused}
    return facts, f"{file}: {len(table.bits):,} codes of {table.dim} bits, {table.bits.mean():.3f} of them 1"
