"""``dmz translate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe


@common.recipe_options(steps=10)
def translate(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A picture, a folder or archive of pictures, or a set of pairs; by default the set that the pair was "
            "trained on.",
        ),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option("--pair", metavar="NAME", help="The pair of runs, runs/NAME-A and runs/NAME-B."),
    ] = None,
    direction: Annotated[
        str, typer.Option("--direction", help="A-to-B or B-to-A: from which side to which.")
    ] = "A-to-B",
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            "--kind",
            help="The map, by its kind, name or folder; by default the newest of the pair.",
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", "-n", min=1, max=10_000, help="Images of each input.")] = 4,
    split: Annotated[str, typer.Option("--split", help="Of a set of pairs: train, valid or test.")] = "test",
    count: Annotated[
        int,
        typer.Option("--count", min=1, max=bounds.MOST_IMAGES, help="Inputs at most, evenly spread."),
    ] = 64,
    recipe: Recipe = Recipe(),
    temperature: common.TemperatureOption = 1.0,
    rounded: common.RoundOption = False,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    skip_bad: common.SkipBadOption = False,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            callback=bounds.new_folder,
            help="Folder; by default in translations/ of the target's run.",
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Translate pictures of one side of pairs into the other: drawings into photos, through the bits.

    Writes images, a grid (input, outputs, target where it is known), an archive and a card; the same command again
    resumes.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError
    from dmzcli.runs.pair import check_direction, find_pair, only_pair

    check_direction(direction)
    if rounded:
        common.refuse(context, ("temperature",), "with --round, which takes the likelier bits")
    runs = find_pair(only_pair() if pair is None else pair)
    from dmzcli.codes.pair import find_map
    from dmzcli.evaluation.limits import check_split

    check_split(split)
    find_map(runs, direction, prior)  # complains here and now
    if name is not None and Path(name).suffix and not Path(name).exists() and data_dir is None:
        raise UserError(f"{name} does not exist", "name a picture, a folder of pictures, or a set of pairs")
    from dmzcli.generation.inputs import read_inputs
    from dmzcli.generation.translate import Translator
    from dmzcli.generation.translations import translate as write_translations

    for run in runs.sides(direction):
        common.tell_stopped(talk, run)
    flags = common.data_flags(data_dir, skip_bad)
    inputs = read_inputs(
        runs,
        direction,
        name,
        split,
        count,
        settings or (),
        flags,
        lambda data: common.load_dataset(talk, data),
    )
    translator = Translator.load(runs, direction, prior, device)
    warmth = bounds.COLDEST if rounded else temperature
    made = write_translations(translator, inputs, draws, recipe, seed, warmth, out, batch_size, talk)
    files = {"folder": str(made.folder), "grid": str(made.folder / "grid.png")}
    talk.result(
        {**files, "card": str(made.folder / "translations.json"), **made.facts},
        f"{made.folder}: {len(inputs):,} inputs, {draws} images of each, {direction} by {translator.folder.name}",
    )
