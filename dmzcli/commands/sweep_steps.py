"""``dmz sweep-steps``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe


@common.recipe_options("spacing", "precision", "guidance", "guidance_interval")
def sweep_steps(
    run: common.RunOption = None,
    prior: Annotated[
        list[str] | None,
        typer.Option(
            "--prior", help="A prior of the run to draw bits from; repeatable. By default the newest."
        ),
    ] = None,
    plain: Annotated[
        Path | None,
        typer.Option(
            "--plain", help="A run with latent none; by default the newest on the same images, if any."
        ),
    ] = None,
    bits: Annotated[
        str,
        typer.Option(
            "--bits", help="Where bits are from: any of prior, encoded (test images), plain (no bits)."
        ),
    ] = "prior,encoded,plain",
    samplers: Annotated[str, typer.Option("--samplers", help="Names, with commas.")] = "ancestral,ddim",
    steps: Annotated[
        str, typer.Option("--steps", help="Numbers T of network evaluations.")
    ] = "4,8,10,20,50,100",
    recipe: Recipe = Recipe(),
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=bounds.MOST_IMAGES, help="Images per score.")
    ] = 10_000,
    split: Annotated[
        str,
        typer.Option(
            "--split", help="The reference's split; train, as encoded bits are those of test images."
        ),
    ] = "train",
    features: common.FeaturesOption = None,
    weights: common.WeightsOption = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            callback=bounds.new_folder,
            help="The folder; by default sweeps/steps (with --spacing: steps-NAME) in the run.",
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Score samples over the number of steps, by sampler and by where the bits are from; a table and a plot.

    The same command again resumes.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.codes.find import can_sample, find_prior
    from dmzcli.commands.console import table as make_table
    from dmzcli.diffusion.names import check as check_name
    from dmzcli.errors import UserError, did_you_mean
    from dmzcli.evaluation import limits
    from dmzcli.runs.find import find_run

    limits.check_split(split)
    limits.check_count(count)
    limits.check_weights(weights)
    kinds = common.listed(bits)
    for kind in kinds:
        if kind not in ("prior", "encoded", "plain"):
            hint = did_you_mean(kind, ["prior", "encoded", "plain"])
            raise UserError(f"--bits {kind} is none of prior, encoded and plain", hint)
    wrong = [part for part in common.listed(steps) if not part.isdecimal() or int(part) < 1]
    if wrong or not common.listed(steps):
        raise UserError(f"--steps {steps} is no list of whole numbers", "such as --steps 4,8,10,20")
    names, numbers = common.listed(samplers), [int(part) for part in common.listed(steps)]
    for name in names:
        check_name("sampler", name)
    chosen = find_run(run, fits=lambda found: found.config.model.dim > 0 and can_sample(found))
    if "prior" in kinds and chosen.config.model.dim:
        for each in prior or ():
            find_prior(chosen, each)  # complains here and now
    from dmzcli.evaluation.card import ENOUGH, few
    from dmzcli.evaluation.features import create
    from dmzcli.evaluation.sources import reference_data, usual_features
    from dmzcli.studies.step_sweep import check, encoded_source, find_plain, plain_source, prior_source, sweep
    from dmzcli.system.devices import pick

    where = pick(device)
    common.tell_stopped(talk, chosen)
    recipe = recipe.on(where, chosen.config)
    check(names, numbers, count, [chosen] if kinds else [], recipe)
    model = chosen.load_model(where)
    if model.dim == 0:  # a plain model by itself
        plain, kinds = plain or chosen.path, ["plain"]
    dataset = common.load_dataset(talk, reference_data(None, chosen, settings or (), data_dir))
    dataset.rows(split)  # refuses a wrong name before the work
    sources = []
    if "prior" in kinds:
        priors: list[str | None] = [*prior] if prior else [None]
        sources += [prior_source(chosen, model, name, count, seed) for name in priors]
    if "encoded" in kinds:
        sources.append(encoded_source(chosen, model, dataset, count))
    if "plain" in kinds:
        nested = chosen if model.config.model.nested and plain is None else None
        other = nested or (find_plain(chosen) if plain is None else find_run(plain))
        if other is None:
            talk.say(
                "no run with latent none on these images: plain is left out; train one with --latent none"
            )
        else:
            sources.append(plain_source(other, other.load_model(where), count))
    extractor = create(features or usual_features(dataset, split), dataset, where, weights, talk=talk)
    default = "steps" if recipe.spacing is None else f"steps-{recipe.spacing}"
    if recipe.guidance != 1:
        default += f"-w{recipe.guidance:g}"
    folder = out or chosen.path / "sweeps" / default
    talk.say(f"sweeping {', '.join(source.name for source in sources)} of {chosen.path} into {folder}")
    if count < ENOUGH:
        talk.say(f"warning: {few('images', count)}")
    swept = sweep(
        *(sources, names, numbers, count, dataset, split, extractor, folder, seed, batch_size, recipe, talk)
    )
    title = f"{swept.metric} of {count:,} images against {dataset.identity} {split}"
    if swept.real is not None:
        title += f" ({swept.real_count:,} real test images: {swept.real:.4g})"
    facts = {"sweep": str(folder / "sweep.json"), "run": str(chosen.path), **swept.summary()}
    talk.result(facts, make_table(title, swept.table()))
