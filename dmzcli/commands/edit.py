"""``dmz edit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe


@common.recipe_options("steps", "spacing", "precision", sampler="ddim", steps=50)
def edit(
    context: typer.Context,
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Pictures of your own, fitted and encoded by the run.", metavar="[IMAGE]..."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Images of this split of the dataset instead: train, valid or test."),
    ] = None,
    count: Annotated[
        int,
        typer.Option("--count", "-n", min=1, max=bounds.MOST_IMAGES, help="How many of the split at most."),
    ] = 100,
    up: Annotated[str | None, typer.Option("--raise", help="The class or attribute to raise.")] = None,
    down: Annotated[str | None, typer.Option("--lower", help="The class or attribute to lower.")] = None,
    raise_other: Annotated[
        bool,
        typer.Option("--raise-other", help="With --split: raise a class at random, not the image's own."),
    ] = False,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            help="The probe's probability to reach; with --lower, to leave 1 minus this or less.",
        ),
    ] = 0.9,
    most: Annotated[
        int | None,
        typer.Option("--most", min=1, help="Flips of an image at most; by default a quarter of the bits."),
    ] = None,
    lock: Annotated[
        list[str] | None,
        typer.Option(
            "--lock",
            help="What to keep: bits such as 5 or 8-15, or a class or attribute that the probe must decide as before; "
            "repeatable, or with commas.",
        ),
    ] = None,
    prior: Annotated[
        str | None, typer.Option("--prior", help="A prior of the run that brakes flips to unlikely codes.")
    ] = None,
    brake: Annotated[
        float | None,
        typer.Option(
            "--brake",
            min=0,
            callback=bounds.finite,
            help="Log-odds that a nat of log p(bits) is worth; 1 with --prior.",
        ),
    ] = None,
    run: common.RunOption = None,
    bits: Annotated[Path | None, typer.Option("--bits", help="A bit table; by default the run's.")] = None,
    recipe: Recipe = Recipe(),
    fit: common.FitOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", callback=bounds.new_folder, help="Folder; by default edits/<edit> in the run."),
    ] = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    seed: common.SeedOption = 0,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Raise or lower a class or an attribute of images by flipping the fewest bits that move a linear probe.

    What no bit says is kept by the image's own noise (DDIM inversion). A classifier of pixels that knows neither bits
    nor probe says what the edit did, beside as many flips at random. The folder holds the images, a grid and a card.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError
    from dmzcli.evaluation.limits import check_split

    asked = [
        name for name, value in (("--raise", up), ("--lower", down), ("--raise-other", raise_other)) if value
    ]
    if len(asked) != 1:
        raise UserError(
            f"{' and '.join(asked) or 'nothing'} to do to the images",
            "name one of: --raise, --lower, --raise-other",
        )
    if bool(images) == (split is not None):
        raise UserError(
            f"{'pictures and --split' if images else 'no image'} to edit",
            "name pictures, or a split with --split test",
        )
    if split is not None:
        check_split(split)
        common.refuse(context, ("fit",), "with --split: --set data.fit says how a dataset is read")
    else:
        common.refuse(context, ("count", "raise_other"), "for pictures of your own")
    if not 0 < threshold < 1:
        raise UserError(
            f"--threshold {threshold:g} is no probability between 0 and 1", "for example --threshold 0.9"
        )
    if brake is not None and prior is None:
        raise UserError(
            "--brake brakes by a prior, and there is no --prior", "name one, such as --prior mixture"
        )
    from dmzcli.codes.find import find_bits
    from dmzcli.codes.table import BitTable
    from dmzcli.generation.edit import check_invertible
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    chosen = find_run(run, fits=lambda found: found.bits.exists())
    common.tell_stopped(talk, chosen)
    check_invertible(chosen)
    path = find_bits(bits, chosen.path)
    table = BitTable.read(path)
    chosen.check_made(path, table.model)
    from dmzcli.analysis.flips import Locks, Rule
    from dmzcli.evaluation import edit_card
    from dmzcli.evaluation.edits import judge_for, make_edits

    if most is not None and most > table.dim:
        raise UserError(
            f"--most {most} is more than the {table.dim} bits of a code", "leave it out for a quarter"
        )
    braking = None if prior is None else edit_card.brake_of(chosen, prior, table.dim)
    sign = -1 if down else 1
    rule = Rule(
        sign,
        threshold,
        most or max(1, table.dim // 4),
        braking,
        (1.0 if brake is None else brake) if prior else 0.0,
    )
    targets, probes = edit_card.known_targets(table)
    name = up or down
    if name is None:
        target, probe, column = targets[0], probes[0], None
        if not target.exclusive:
            raise UserError(
                "the bit table has no labels, and no other class to raise", "name an attribute with --raise"
            )
    else:
        target, probe, column = edit_card.target_named(name, targets, probes)
    entries = [part for entry in lock or () for part in common.listed(entry)]
    locks = Locks.parse(entries, table.dim, targets, probes)
    if column is not None and probe.names[column] in locks.names:
        raise UserError(f"--lock keeps '{probe.names[column]}', which is to change", "leave it out of --lock")
    data = images_for(chosen, None, settings or (), common.data_flags(data_dir, False))
    from dmzcli.system.devices import pick

    where = pick(device)
    model = chosen.load_model(where)
    dataset = None
    try:
        dataset = common.load_dataset(talk, data)
    except UserError as error:
        if split is not None or settings or data_dir is not None:
            raise
        talk.say(f"no classifier judges the edits: {error.message}; {error.hint}")
    if split is not None:
        assert dataset is not None
        subjects = edit_card.subjects_of_split(dataset, table, split, count, target, column, sign, seed)
    else:
        assert column is not None
        subjects = edit_card.subjects_of_pictures(images or [], model, fit or data.fit, column)
    judge = None if dataset is None else judge_for(dataset, probe, subjects.split, where, talk)
    recipe = recipe.of(chosen).on(where, chosen.config).resolved(chosen.config.diffusion)
    edits = make_edits(
        model, subjects.images, subjects.columns, probe, locks, rule, recipe, seed, batch_size, talk
    )
    action = "raise-other" if name is None else f"{'lower' if down else 'raise'} {name}"
    facts = edit_card.write_edits(
        chosen, table, subjects, edits, probe, rule, entries, recipe, judge, seed, action, out
    )
    from dmzcli.commands.console import table as make_table

    flipped = f"{facts['flipped_share']:.1%} of {table.dim} bits flipped"
    title = f"{facts['folder']}: {action}, {facts['images']:,} images, {flipped}"
    talk.result(facts, make_table(title, edit_card.shown(facts)))
