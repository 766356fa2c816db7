"""``dmz compare-priors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe

_IMAGES = (
    "count",
    "steps",
    "sampler",
    "spacing",
    "precision",
    "split",
    "margin",
    "features",
    "weights",
    "data_dir",
    "batch_size",
    "device",
)


@common.recipe_options("steps", "sampler", "spacing", "precision", steps=10)
def compare_priors(
    context: typer.Context,
    bits: Annotated[Path | None, typer.Argument(help="A bit table; by default the newest.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="A kind to compare; repeatable. By default all of them."),
    ] = None,
    run: common.RunOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            callback=bounds.new_folder,
            help="Folder of table and plot; by default priors/ in the run.",
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count",
            "-n",
            min=0,
            max=bounds.MOST_IMAGES,
            help="With --run: images per kind to score; 0 for none.",
        ),
    ] = 10_000,
    recipe: Recipe = Recipe(),
    split: Annotated[
        str, typer.Option("--split", help="The images' reference; train, as the held-out codes are of test.")
    ] = "train",
    margin: Annotated[
        float,
        typer.Option(
            "--margin",
            min=0,
            callback=bounds.finite,
            help="With --run: a prior is enough if its images' distance is above that of real codes by less than "
            "this share of it. State it before you look.",
        ),
    ] = 0.2,
    features: common.FeaturesOption = None,
    weights: common.WeightsOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Option of all kinds that have it, as name=value (minutes=1), or data.key=value: how the images' "
            "dataset is read; repeatable.",
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Fit every kind of prior to a bit table and compare them on codes that they were not fitted to.

    Held-out bits per code, accuracy of telling samples from held-out codes (training codes in place of samples show
    what is ideal, about 0.5), copies of training codes, size and speed; saved as comparison.json, .md and .png, and
    every fitted prior beside them. With --run also the Fréchet distance of images that the run decodes from each
    prior's samples, of no more images than there are held-out codes; beside them real codes, and as a control real
    codes with 1%, 2% and 5% of their bits flipped. Differences from real codes are paired: image i has noise i.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.codes.find import find_bits, owner_of, priors_folder
    from dmzcli.codes.table import BitTable
    from dmzcli.commands.console import table as make_table
    from dmzcli.errors import UserError
    from dmzcli.evaluation import limits
    from dmzcli.runs.find import find_run

    of_data = [setting for setting in settings or () if setting.startswith("data.")]
    of_priors = [setting for setting in settings or () if setting not in of_data]
    if run is None:
        common.refuse(context, _IMAGES, "without --run")
        if of_data:
            raise UserError(f"--set {of_data[0]} means nothing without --run", "leave it out")
    limits.check_split(split)
    limits.check_count(count, zero=True)
    limits.check_weights(weights)
    import priors

    for name in kind or ():
        priors.describe(name)  # complains here and now
    path = find_bits(bits, run)
    table = BitTable.read(path)
    folder = out or priors_folder(table, path, run)
    talk.say(f"comparing priors on {path}: {len(table.rows('train')):,} training codes of {table.dim} bits")
    from dmzcli.codes.fit import share_settings
    from dmzcli.evaluation.card import ENOUGH, few
    from dmzcli.studies.code_images import Images
    from dmzcli.studies.prior_comparison import compare
    from dmzcli.studies.prior_table import write
    from dmzcli.system.locks import hold

    if remark := owner_of(path, table.model).remark(path, table.dataset):
        talk.say(remark)
    images = None
    if run is not None and count:
        from dmzcli.evaluation.features import create
        from dmzcli.evaluation.sources import reference_data, usual_features
        from dmzcli.generation.decode import usual_batch
        from dmzcli.system.devices import pick

        chosen, where = find_run(run), pick(device)
        common.tell_stopped(talk, chosen)
        model = chosen.load_model(where)
        chosen.check_made(path, table.model)
        recipe = recipe.of(chosen).on(where, model.config)
        sampler = recipe.create(model.config.diffusion)
        dataset = common.load_dataset(talk, reference_data(None, chosen, of_data, data_dir))
        if dataset.identity != table.dataset:
            raise UserError(
                f"the images would be compared with {dataset.identity}, but {path} was made from {table.dataset}",
                "name the same dataset with --data-dir or --set, or encode anew",
            )
        dataset.rows(split)  # refuses a wrong name before the work
        share_settings(of_priors, kind or priors.available())
        extractor = create(features or usual_features(dataset, split), dataset, where, weights, talk=talk)
        batch, precision = batch_size or usual_batch(model), recipe.precision
        images = Images(
            *(model, sampler, dataset, split, extractor, count, seed, batch, precision, talk),
            weights=chosen.weights_hash,
            keep=folder / "images",
            spacing=recipe.spacing,
        )
    if images is not None and images.count < ENOUGH:
        talk.say(f"warning: {few('images', count)}")
    with hold(folder, folder=True):
        comparison = compare(table, path, kind or (), seed, folder, talk, images, of_priors, margin)
        write(comparison, folder)
    if comparison.remark() is not None:
        talk.say(f"note: {comparison.remark()}")
    facts = {"comparison": str(folder / "comparison.json"), "bits": str(path), **comparison.facts()}
    sizes = f"{comparison.held_out:,} {comparison.split} codes, {comparison.samples:,} samples of each"
    title = f"{path}: {sizes}, seed {seed}"
    if images is not None:
        shown = f"{min(count, comparison.held_out):,} images of each, {recipe.sampler}, {recipe.steps} steps"
        title += f"; {shown}, against {images.dataset.identity} {split}; margin {comparison.allowed:.3g}"
    talk.result(facts, make_table(title, comparison.table()))
