"""``dmz evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe

_DRAWING = ("prior", "count", *common.RECIPE, "temperature")
_OF_SAMPLES = ("samples", "run", "metrics", "reconstructions", "allow_lossy", "resize")


@common.recipe_options()
def evaluate(
    context: typer.Context,
    samples: Annotated[
        Path | None,
        typer.Argument(
            help="A folder or archive of images, .npz, .npy or HDF5; by default drawn from the newest run and prior."
        ),
    ] = None,
    run: common.RunOption = None,
    pair: common.PairOption = None,
    direction: common.DirectionOption = "A-to-B",
    draws: Annotated[
        int, typer.Option("--draws", min=1, max=10_000, help="With --pair: translations of each input.")
    ] = 4,
    rounded: common.RoundOption = False,
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior", help="The run's prior to draw bits from, or the pair's map; by default the newest."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count",
            "-n",
            min=1,
            max=bounds.MOST_IMAGES,
            help="How many images to draw, or pairs of each split.",
        ),
    ] = 10_000,
    recipe: Recipe = Recipe(),
    temperature: common.TemperatureOption = 1.0,
    against: Annotated[
        str | None, typer.Option("--against", help="The dataset to compare with; by default the run's own.")
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Its split; published FIDs are mostly measured against train.")
    ] = "test",
    features: common.FeaturesOption = None,
    weights: common.WeightsOption = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Some of fid, kid, is, prc; by default all that there are."),
    ] = None,
    reconstructions: Annotated[
        bool,
        typer.Option("--reconstructions", hidden=True, help="Is a command of its own: dmz reconstruct."),
    ] = False,
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Take JPEG-compressed samples as they are.")
    ] = False,
    resize: Annotated[
        bool, typer.Option("--resize", help="Resample samples of another size than the reference's.")
    ] = False,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_file, help="The card's file; by default beside the samples of a run."
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Score images against a dataset: Fréchet and kernel distance, inception score, precision and recall.

    The result is an evaluation card (JSON): every score with its interval, and the counts, split, feature network,
    encoding, sampler, seeds and hashes that it depends on. With --pair it scores translations of training pairs and
    of held-out ones (--split) beside three references.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError
    from dmzcli.evaluation import limits

    if reconstructions:
        raise UserError(
            "--reconstructions is a command of its own by now, dmz reconstruct",
            f"dmz reconstruct --split {split} takes these options",
        )
    if pair is None:
        common.refuse(context, ("direction", "draws", "rounded"), "without --pair")
    else:
        common.refuse(context, _OF_SAMPLES, "with --pair, which translates pairs")
        limits.check_split(split)
        limits.check_weights(weights)
        if rounded:
            common.refuse(context, ("temperature",), "with --round, which takes the likelier bits")
            temperature = bounds.COLDEST
        from dmzcli.commands.pair_scores import score_pair

        data = (against, settings or (), common.data_flags(data_dir, False))
        how = (split, count, draws, recipe, temperature, seed)
        score_pair(talk, pair, direction, prior, data, how, features, weights, out, batch_size, device)
        return

    limits.check_split(split)
    if out is not None and out.suffix == ".png":
        raise UserError(f"--out {out} is no file for a card", "such as --out card.json")
    chosen_metrics = None if metrics is None else common.listed(metrics)
    limits.check_names(chosen_metrics)
    limits.check_weights(weights)
    if samples is None:
        limits.check_count(count)
    else:
        common.refuse(context, _DRAWING, "for samples that are there already")
    from dmzcli.codes.draw import check_plain
    from dmzcli.codes.find import can_sample, find_prior, find_run_for
    from dmzcli.commands.console import table
    from dmzcli.evaluation.image_sets import read_images
    from dmzcli.evaluation.sources import reference_data, run_of
    from dmzcli.runs.find import find_run

    if samples is None:
        maker = find_run(run, fits=can_sample) if prior is None else find_run_for(prior, run)
        common.tell_stopped(talk, maker)
        if maker.config.model.dim:
            find_prior(maker, prior)  # complains here and now
        else:
            check_plain(prior, temperature)
        reference = reference_data(against, maker, settings or (), data_dir)
    else:
        images, folder = read_images(samples), samples
        owner = find_run(run) if run is not None else run_of(samples)
        reference = reference_data(against, owner, settings or (), data_dir)
    from dmzcli.evaluation import card as cards
    from dmzcli.evaluation.features import check_known, create
    from dmzcli.evaluation.sources import usual_features
    from dmzcli.generation.samples import sample_run
    from dmzcli.system.devices import pick

    if features is not None:
        check_known(features)
    where = pick(device)
    if samples is None:
        recipe = recipe.on(where, maker.config)
    dataset = common.load_dataset(talk, reference)
    dataset.rows(split)  # refuses a wrong name before the work
    extractor = create(features or usual_features(dataset, split), dataset, where, weights, talk=talk)
    batch = batch_size or 64
    names = cards.prepare(extractor, dataset, split, chosen_metrics, batch, talk)
    if samples is None:
        _, folder = sample_run(
            maker, prior, count, seed, recipe, where, temperature, None, None, batch_size, talk
        )
        images = read_images(folder)
    card = cards.evaluate(images, dataset, split, extractor, names, seed, batch, allow_lossy, resize, talk)
    out = cards.write(card, out or card.file(folder), talk)
    talk.result(
        {"card": None if out is None else str(out), **card.facts()}, table(card.title(), card.table())
    )
