"""``dmz evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmzcli.commands import options as common

if TYPE_CHECKING:
    from dmzcli.runs import Run


_DRAWING = (
    "prior",
    "count",
    "steps",
    "sampler",
    "spacing",
    "eta",
    "threshold",
    "percentile",
    "precision",
    "temperature",
)
_SCORING = ("prior", "temperature", "features", "weights", "metrics", "allow_lossy", "resize")


def evaluate(
    context: typer.Context,
    samples: Annotated[
        Path | None,
        typer.Argument(
            help="A folder or archive of images, .npz, .npy or HDF5; by default drawn from the newest run and prior."
        ),
    ] = None,
    run: common.RunOption = None,
    prior: Annotated[
        str | None, typer.Option("--prior", help="The run's prior to draw bits from; by default the newest.")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many images to draw, or to reconstruct.")
    ] = 10_000,
    steps: common.StepsOption = 20,
    sampler: common.SamplerOption = "ancestral",
    spacing: common.SpacingOption = None,
    eta: common.EtaOption = 0.0,
    threshold: common.ThresholdOption = "clip",
    percentile: common.PercentileOption = 0.995,
    precision: common.PrecisionOption = "no",
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
        typer.Option(
            "--reconstructions", help="Compare images of the split with what their own bits decode to."
        ),
    ] = False,
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Take JPEG-compressed samples as they are.")
    ] = False,
    resize: Annotated[
        bool, typer.Option("--resize", help="Resample samples of another size than the reference's.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How --against is read, such as data.size=64."),
    ] = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="The card's file; by default beside the samples of a run.")
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Score images against a dataset: Fréchet and kernel distance, inception score, precision and recall.

    The result is an evaluation card (JSON): every score with its interval, and the counts, split, feature network,
    encoding, sampler, seeds and hashes that it depends on.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.commands.console import table
    from dmzcli.diffusion.samplers import sampler_class
    from dmzcli.errors import UserError
    from dmzcli.evaluation.sources import drawn, reference_data, run_of
    from dmzcli.runs.find import find_run
    from dmzcli.system.devices import computing_in, pick

    where = pick(device)
    if out is not None and (out.is_dir() or out.suffix == ".png"):
        raise UserError(f"--out {out} is no file for a card", "such as --out card.json")
    sampler_class(sampler)  # refuses a wrong name before the work
    recipe = {
        "sampler": sampler,
        "steps": steps,
        "spacing": spacing,
        "eta": eta,
        "threshold": threshold,
        "percentile": percentile,
        "precision": computing_in(precision, where),
    }
    if reconstructions:
        if samples is not None:
            raise UserError(f"--reconstructions takes a run, not the samples {samples}", "name it with --run")
        common.refuse(context, _SCORING, "with --reconstructions")
        chosen = find_run(run, fits=lambda found: found.config.model.dim > 0)
        dataset = common.load_dataset(talk, reference_data(against, chosen, settings or (), data_dir))
        from dmzcli.evaluation.reconstruction import evaluate_reconstructions

        ended = evaluate_reconstructions(
            chosen, dataset, split, count, recipe, seed, where, batch_size, out, talk
        )
        talk.result(ended.facts(), table(ended.title(), ended.table()))
        return
    from dmzcli.evaluation.card import available_metrics, check_metrics
    from dmzcli.evaluation.card import evaluate as score
    from dmzcli.evaluation.features import FEWEST, create, reference_of
    from dmzcli.evaluation.image_sets import read_images
    from dmzcli.evaluation.sources import usual_features

    if samples is None:
        from dmzcli.codes.find import can_sample, find_run_for

        made_by: Run | None = find_run(run, fits=can_sample) if prior is None else find_run_for(prior, run)
        if count < FEWEST:
            raise UserError(f"--count {count} is too few for a score", f"at least {FEWEST} are needed")
    else:
        common.refuse(context, _DRAWING, "for samples that are there already")
        given = read_images(samples)
        made_by = find_run(run) if run is not None else run_of(samples)
    dataset = common.load_dataset(talk, reference_data(against, made_by, settings or (), data_dir))
    dataset.rows(split)  # refuses a wrong name before the work
    extractor = create(features or usual_features(dataset), dataset, where, weights, talk=talk)
    wanted = available_metrics(extractor)
    if metrics is not None:
        wanted = tuple(common.listed(metrics))
    check_metrics(wanted, extractor)
    # Cached, and it refuses before the images are made.
    reference_of(extractor, dataset, split, batch_size or 64, talk)
    if samples is None:
        assert made_by is not None
        images, folder = drawn(
            made_by, prior, count, seed, recipe | {"temperature": temperature}, where, batch_size, talk
        )
    else:
        images, folder = given, samples
    card = score(images, dataset, split, extractor, wanted, seed, batch_size or 64, allow_lossy, resize, talk)
    for warning in card.warnings:
        talk.say(f"warning: {warning}")
    from dmzcli.system.files import write_json

    if out is None and (folder / "plan.json").exists():
        out = folder / f"evaluation-{extractor.name}-{dataset.name}-{split}-{card.digest()}.json"
    if out is None:
        talk.say("no card is written beside images of others: name a file with --out")
    else:
        write_json(out, card.facts())
    facts = {"card": None if out is None else str(out), **card.facts()}
    title = (
        f"{images.name}: {len(images):,} images against {card.reference['n']:,} of {dataset.identity} {split}, "
        f"features {extractor.name} {extractor.sha256[:8]}"
    )
    talk.result(facts, table(title, card.table()))
