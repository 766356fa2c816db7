"""``dmz tune-steps``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe

if TYPE_CHECKING:
    from dmzcli.generation.tuning import Tuned

BY = {"score": 1000, "error": 64}
"""The criteria, and the images of each that are enough to tell timesteps apart."""
ONLY_SCORE = ("split", "features", "weights")


@common.recipe_options("threshold", "percentile", "precision")
def tune_steps(
    context: typer.Context,
    run: common.RunOption = None,
    samplers: Annotated[
        str, typer.Option("--sampler", "--samplers", help="Deterministic samplers, with commas.")
    ] = "unipc",
    steps: Annotated[
        str, typer.Option("--steps", help="Numbers T of network evaluations, with commas.")
    ] = "4,8",
    recipe: Recipe = Recipe(),
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="score: nearest to real images, in a network's features. error: nearest to the images of many steps.",
        ),
    ] = "score",
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            min=1,
            max=bounds.MOST_IMAGES,
            help=f"Images of the search; by default {BY['score']:,} by score and {BY['error']} by error.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="By score: the split that images are compared with.")
    ] = "train",
    features: common.FeaturesOption = None,
    weights: common.WeightsOption = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Search for the T timesteps that suit a run best; --spacing tuned then takes them.

    Candidates decode the bits of valid images with the same noise. By score, the result is confirmed on other bits and
    noise, and is never worse there than a spacing.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError, did_you_mean
    from dmzcli.evaluation import limits
    from dmzcli.runs.find import find_run

    if by not in BY:
        raise UserError(f"--by {by} is neither score nor error", did_you_mean(by, BY))
    count = BY[by] if count is None else count
    if by == "error":
        common.refuse(context, ONLY_SCORE, "with --by error, which compares with no images")
    else:
        limits.check_count(count)
        limits.check_split(split)
        limits.check_weights(weights)
    recipes = _recipes(recipe, samplers, steps)
    chosen = find_run(run)
    from dmzcli.commands.console import table
    from dmzcli.generation import tuning
    from dmzcli.system.devices import pick

    for each in recipes:
        tuning.check(each, chosen.config.diffusion.timesteps)
    where = pick(device)
    common.tell_stopped(talk, chosen)
    model = chosen.load_model(where)
    recipes = [each.on(where, chosen.config) for each in recipes]
    dataset = None
    if by == "score" or model.dim:
        from dmzcli.evaluation.sources import reference_data

        dataset = common.load_dataset(talk, reference_data(None, chosen, settings or (), data_dir))
    tune: Callable[[Recipe], Tuned]
    if by == "score":
        from dmzcli.evaluation.features import create
        from dmzcli.evaluation.sources import usual_features
        from dmzcli.studies.step_tuning import ScoreSearch

        assert dataset is not None
        dataset.rows(split)  # refuses a wrong name before the work
        codes = tuning.valid_bits(model, dataset, 2 * count)
        extractor = create(features or usual_features(dataset, split), dataset, where, weights, talk=talk)
        tune = ScoreSearch(model, codes, count, dataset, split, extractor, seed, batch_size, talk).tune
    else:
        codes = None if dataset is None else tuning.valid_bits(model, dataset, count)
        count = count if codes is None else len(codes)

        def tune(recipe: Recipe) -> Tuned:
            return tuning.tune(model, codes, count, recipe, seed, batch_size, talk)

    results = tuning.tune_run(chosen, recipes, tune, talk)
    facts = {"tuned": str(chosen.tuned), "run": str(chosen.path), "weights": chosen.weights_hash}
    title = f"{chosen.tuned}: by {by}, {count:,} images"
    talk.result(
        {**facts, "entries": [each.facts() for each in results]},
        table(title, [each.row() for each in results]),
    )


def _recipes(recipe: Recipe, samplers: str, steps: str) -> list[Recipe]:
    """A recipe for every sampler and T."""
    from dmzcli.diffusion.names import check as check_name
    from dmzcli.errors import UserError

    wrong = [part for part in common.listed(steps) if not part.isdecimal()]
    if wrong or not common.listed(steps):
        raise UserError(f"--steps {steps} is no list of whole numbers", "such as --steps 4,8,10")
    names, numbers = dict.fromkeys(common.listed(samplers)), sorted({int(t) for t in common.listed(steps)})
    if not names:
        raise UserError("--sampler names no sampler", "such as --sampler unipc,ddim")
    for name in names:
        check_name("sampler", name)
    return [replace(recipe, sampler=name, steps=t) for name in names for t in numbers]
