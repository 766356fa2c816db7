"""``dmz sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe


@common.recipe_options()
def sample(
    prior: Annotated[
        str | None,
        typer.Argument(help="A prior of the run by its kind, or a prior's folder; by default the newest."),
    ] = None,
    run: common.RunOption = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=bounds.MOST_IMAGES, help="How many images.")
    ] = 64,
    recipe: Recipe = Recipe(),
    temperature: common.TemperatureOption = 1.0,
    given: Annotated[
        Path | None,
        typer.Option(
            "--given", help="A bit table to condition on; by default the one that the prior was fitted with."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="A class to draw images of, by name or number, for priors given labels; repeatable. By default all "
            "in turn.",
        ),
    ] = None,
    prefix: common.PrefixOption = None,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_folder, help="Folder; by default samples/<plan> in the run."
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    list_samplers: Annotated[
        bool, typer.Option("--samplers", help="List the samplers, spacings and thresholds, and stop.")
    ] = False,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Generate images from a prior's bits: PNG files, one .npz, and a grid; the same command again resumes."""
    talk = common.console(quiet, as_json)
    if list_samplers:
        from dmzcli.generation.recipe import choices, listing

        talk.result(choices(), listing())
        return
    from dmzcli.codes.draw import check_plain
    from dmzcli.codes.find import can_sample, find_prior, find_run_for
    from dmzcli.runs.find import find_run

    chosen = find_run(run, fits=can_sample) if prior is None else find_run_for(prior, run)
    if chosen.config.model.dim:
        find_prior(chosen, prior)  # complains here and now
    else:
        check_plain(prior, temperature, given, classes or ())
    from dmzcli.generation.samples import sample_run
    from dmzcli.system.processes import join

    where = join(device)
    common.tell_stopped(talk, chosen)
    samples, folder = sample_run(
        *(chosen, prior, count, seed, recipe.on(where, chosen.config), where, temperature, given, out),
        *(batch_size, talk),
        classes or (),
        prefix,
    )
    talk.result(
        {"samples": str(folder), "run": str(chosen.path), **samples.facts()},
        f"{folder}: {count:,} images, {recipe.sampler}, {recipe.steps} steps, prior {samples.prior}",
    )
