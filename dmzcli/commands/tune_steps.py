"""``dmz tune-steps``."""

from __future__ import annotations

from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe


@common.recipe_options("threshold", "percentile", "precision")
def tune_steps(
    run: common.RunOption = None,
    samplers: Annotated[
        str, typer.Option("--sampler", "--samplers", help="Deterministic samplers, with commas.")
    ] = "unipc",
    steps: Annotated[
        str, typer.Option("--steps", help="Numbers T of network evaluations, with commas.")
    ] = "4,8",
    recipe: Recipe = Recipe(),
    count: Annotated[
        int,
        typer.Option("--count", "-n", min=1, max=bounds.MOST_IMAGES, help="Images of the search."),
    ] = 64,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Search for the T timesteps that suit a run best; --spacing tuned then takes them.

    Images of T steps are compared with those of many, on noise and on the bits of images of the valid split.
    """
    talk = common.console(quiet, as_json)
    from dataclasses import replace

    from dmzcli.commands.console import table
    from dmzcli.diffusion.names import check as check_name
    from dmzcli.errors import UserError
    from dmzcli.runs.find import find_run

    wrong = [part for part in common.listed(steps) if not part.isdecimal()]
    if wrong or not common.listed(steps):
        raise UserError(f"--steps {steps} is no list of whole numbers", "such as --steps 4,8,10")
    names, numbers = dict.fromkeys(common.listed(samplers)), sorted({int(t) for t in common.listed(steps)})
    if not names:
        raise UserError("--sampler names no sampler", "such as --sampler unipc,ddim")
    for name in names:
        check_name("sampler", name)
    chosen = find_run(run)
    from dmzcli.generation.tuning import check, tune_run
    from dmzcli.system.devices import pick

    recipes = [replace(recipe, sampler=name, steps=t) for name in names for t in numbers]
    for each in recipes:
        check(each, chosen.config.diffusion.timesteps)
    where = pick(device)
    common.tell_stopped(talk, chosen)
    model, images = chosen.load_model(where), None
    recipes = [each.on(where, chosen.config) for each in recipes]
    if model.dim:
        from dmzcli.config import changed_data
        from dmzcli.data.dataset import spread

        data = changed_data(chosen.config.data, settings or ())
        data = data if data_dir is None else data.model_copy(update={"data_dir": str(data_dir)})
        dataset = common.load_dataset(talk, data)
        rows = spread(dataset.rows("valid"), count)
        if not len(rows):
            raise UserError(
                f"{dataset.name} has no valid images, whose bits the search decodes",
                "use a spacing that needs no search, such as --spacing trailing",
            )
        images, count = dataset.images[rows], len(rows)
    results = tune_run(chosen, model, images, count, recipes, seed, batch_size, talk)
    facts = {"tuned": str(chosen.tuned), "run": str(chosen.path), "weights": chosen.weights_hash}
    rows_shown = [
        {
            "sampler": each.recipe.sampler,
            "T": str(each.recipe.steps),
            "timesteps": ", ".join(map(str, each.recipe.timesteps or ())),
            "error": f"{each.error:.3g}",
            "best other": "{1}: {0:.3g}".format(*min((e, name) for name, e in each.others.items())),
        }
        for each in results
    ]
    title = f"{chosen.tuned}: mean squared error against many steps, {count} images"
    talk.result({**facts, "entries": [each.facts() for each in results]}, table(title, rows_shown))
