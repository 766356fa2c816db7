"""``dmz interpolate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe

_OF_A_DATASET = ("pairs", "split", "count")


@common.recipe_options("threshold", "percentile")
def interpolate(
    context: typer.Context,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Two pictures; by default images of the run's dataset.", metavar="[IMAGE_A IMAGE_B]"
        ),
    ] = None,
    run: common.RunOption = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="Images of the dataset by their positions, such as 7:1203,5:9."),
    ] = None,
    count: Annotated[
        int,
        typer.Option("--count", "-n", min=1, max=bounds.MOST_IMAGES, help="Pairs to draw from the split."),
    ] = 4,
    split: Annotated[
        str, typer.Option("--split", help="The split to draw from: train, valid, test.")
    ] = "test",
    order: Annotated[
        str,
        typer.Option(
            "--order",
            help="In which order bits flip: given, random, or greedy, which keeps codes likely; several with commas.",
        ),
    ] = "given",
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior", help="The run's prior that tells how likely codes are; by default the newest."
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", min=3, max=1000, help="Images of a strip, with both ends.")
    ] = 9,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            max=bounds.MOST_STEPS,
            help="T of inversion and decoding; by default 100 or the most.",
        ),
    ] = None,
    recipe: Recipe = Recipe(),
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="What steps are measured in: lpips, none, or as dmz evaluate names them; by default as there.",
        ),
    ] = None,
    weights: common.WeightsOption = None,
    fit: common.FitOption = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_folder, help="The folder; by default in the run's interpolations/."
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Go from one image to another: bits flip one by one, while x_T moves on the great circle between two inversions.

    The result is a strip per pair (PNG) and a card (JSON): the largest step over the mean step in features, beside
    that of a pixel cross-fade and of all bits flipped at once in the middle.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError
    from dmzcli.evaluation import limits
    from dmzcli.generation.orders import check_order

    orders = list(dict.fromkeys(common.listed(order)))
    if not orders:
        raise UserError("there is no order", "name some of given, random, greedy")
    for name in orders:
        check_order(name)
    limits.check_split(split)
    limits.check_weights(weights)
    if features == "none":
        common.refuse(context, ("weights",), "with --features none")
    if images:
        common.refuse(context, _OF_A_DATASET, "for pictures that are given")
        if len(images) != 2:
            raise UserError(
                f"{len(images)} picture{'s' * (len(images) > 1)} given, expected two",
                "dmz interpolate IMAGE_A IMAGE_B",
            )
    else:
        common.refuse(context, ("fit",), "without pictures; say --set data.fit=…")
    rows = None if pairs is None else _rows(pairs)
    if rows is not None:
        common.refuse(context, ("split", "count"), "beside --pairs")
    from dmzcli.codes.find import can_sample, find_prior, find_run_for
    from dmzcli.runs.find import find_run

    weighed = prior is not None or "greedy" in orders
    if prior is not None:
        chosen = find_run_for(prior, run)
    else:
        chosen = find_run(run, fits=lambda own: own.config.model.dim > 0 and (not weighed or can_sample(own)))
    common.tell_stopped(talk, chosen)
    if not chosen.config.model.dim:
        raise UserError(
            f"{chosen.path} is a plain diffusion model (latent 'none'): it has no bits to interpolate",
            "name another --run, or train one with --latent bernoulli",
        )
    folder = find_prior(chosen, prior) if weighed else None
    from dmzcli.runs.plan import images_for

    data = images_for(chosen, None, settings or (), common.data_flags(data_dir, False))
    from dmzcli.commands.console import table
    from dmzcli.evaluation.interpolation import evaluate_interpolation
    from dmzcli.evaluation.pairs import Pairs
    from dmzcli.evaluation.smoothness import check_features
    from dmzcli.generation.inversion import check_invertible, inversion_recipe
    from dmzcli.system.devices import pick

    check_features(features)
    check_invertible(chosen.config.diffusion, "name another --run, with diffusion.perturbation 0")
    inversion = inversion_recipe(chosen.config.diffusion, steps, recipe.threshold, recipe.percentile)
    where = pick(device)
    dataset = None
    if not images or features not in ("lpips", "none"):
        try:
            dataset = common.load_dataset(talk, data)
        except UserError as error:
            if not images or features is not None or data_dir is not None:
                raise
            talk.say(f"no score: {error.message}; {error.hint}")
            features = "none"
    if images:
        chosen_pairs = Pairs.of_pictures(images[0], images[1], chosen.config.shape, fit or data.fit)
    else:
        assert dataset is not None  # what cannot be loaded was refused
        chosen_pairs = (
            Pairs.drawn(dataset, split, count, seed) if rows is None else Pairs.of_rows(dataset, rows)
        )
    card = evaluate_interpolation(
        chosen,
        chosen_pairs,
        orders,
        frames,
        inversion,
        folder,
        features,
        dataset,
        weights,
        seed,
        where,
        batch_size,
        out,
        talk,
    )
    talk.say(f"strips: {Path(card.card).parent}")
    talk.result(card.facts(), table(card.title(), card.table()))


def _rows(text: str) -> list[tuple[int, int]]:
    """Pairs of positions from words such as ``7:1203,5:9``.

    Raises:
        UserError: They are none.
    """
    from dmzcli.errors import UserError

    rows = []
    for part in common.listed(text):
        first, colon, second = part.partition(":")
        known = all(word.isascii() and word.isdigit() and len(word) < 16 for word in (first, second))
        if not colon or not known:
            raise UserError(f"--pairs '{part}' is no pair of positions", "such as --pairs 7:1203,5:9")
        rows.append((int(first), int(second)))
    if not rows:
        raise UserError("--pairs names no pair", "such as --pairs 7:1203,5:9")
    return rows
