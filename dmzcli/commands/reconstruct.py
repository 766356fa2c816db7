"""``dmz reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe

_OF_A_DATASET = ("against", "split", "count", "data_dir")


@common.recipe_options()
def reconstruct(
    context: typer.Context,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Pictures; by default images of a split of the run's dataset.", metavar="[PICTURE]…"
        ),
    ] = None,
    run: common.RunOption = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=bounds.MOST_IMAGES, help="Images of the split at most.")
    ] = 1000,
    split: Annotated[str, typer.Option("--split", help="train, valid or test.")] = "test",
    against: Annotated[
        str | None,
        typer.Option("--against", help="Another dataset to reconstruct; by default the run's own."),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=1, max=100, help="x_T to draw for each image, from bits alone.")
    ] = 4,
    recipe: Recipe = Recipe(),
    invert: Annotated[
        bool, typer.Option("--invert/--no-invert", help="Reconstruct from bits and DDIM-inverted x_T, too.")
    ] = True,
    invert_steps: Annotated[
        int | None,
        typer.Option(
            "--invert-steps",
            min=1,
            max=bounds.MOST_STEPS,
            help="T of the inversion; by default 100 or the most.",
        ),
    ] = None,
    fit: common.FitOption = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_file, help="The card's file; by default in the run's evaluation/."
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Reconstruct images from their bits alone, and from their bits and the noise that DDIM's inversion finds.

    From bits alone, several x_T show what the bits fix and what they leave open. The result is a card (JSON) with MSE,
    PSNR, SSIM and LPIPS, and beside it a grid: originals, reconstructions, their mean and their spread over x_T.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError
    from dmzcli.evaluation import limits

    limits.check_split(split)
    if out is not None and out.suffix == ".png":
        raise UserError(f"--out {out} is no file for a card", "such as --out card.json")
    if pictures:
        common.refuse(context, _OF_A_DATASET, "for pictures that are given")
    else:
        common.refuse(context, ("fit",), "without pictures; say --set data.fit=…")
    if not invert:
        common.refuse(context, ("invert_steps",), "with --no-invert")
    from dmzcli.runs.find import find_run

    chosen = find_run(run, fits=lambda found: found.config.model.dim > 0)
    common.tell_stopped(talk, chosen)
    from dmzcli.evaluation.sources import reference_data

    data = reference_data(against, chosen, settings or (), data_dir)
    from dmzcli.commands.console import table
    from dmzcli.evaluation.reconstruction import Originals, check_model, evaluate_reconstructions
    from dmzcli.generation.pictures import read_pictures
    from dmzcli.system.devices import pick

    check_model(chosen, invert)
    where = pick(device)
    if pictures:
        channels, size, _ = chosen.config.shape
        images, lossy = read_pictures(pictures, (channels, size, size), fit or data.fit)
        originals = Originals(images, "pictures", "pictures", "none", lossy, tuple(map(str, pictures)))
    else:
        originals = Originals.of(common.load_dataset(talk, data), split, count)
    ended = evaluate_reconstructions(
        chosen,
        originals,
        recipe.on(where, chosen.config),
        seed,
        where,
        draws,
        invert,
        invert_steps,
        batch_size,
        out,
        talk,
    )
    talk.say(f"grid: {ended.grid}")
    talk.result(ended.facts(), table(ended.title(), ended.table()))
