"""``dmz inpaint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common
from dmzcli.generation.recipe import Recipe


@common.recipe_options(steps=50)
def inpaint(
    image: Annotated[Path, typer.Argument(help="A picture; it is fitted by the run.")],
    mask: Annotated[
        Path | None,
        typer.Option("--mask", help="A picture of the same size: white is drawn anew, black is kept."),
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="Draw this box anew, ends excluded.")
    ] = None,
    half: Annotated[
        str | None, typer.Option("--half", help="Draw this half anew: left, right, top or bottom.")
    ] = None,
    run: common.RunOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="How many draws.")] = 4,
    bits: Annotated[
        str,
        typer.Option(
            "--bits", help="image: the picture's own bits, which know the part that is drawn; or prior."
        ),
    ] = "image",
    prior: Annotated[
        str | None,
        typer.Option("--prior", help="With --bits prior: its kind or folder; by default the newest."),
    ] = None,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates",
            min=1,
            max=10_000,
            help="With --bits prior: codes a draw, of which the known part takes one.",
        ),
    ] = 1,
    resample: Annotated[
        int,
        typer.Option(
            "--resample", min=1, max=1000, help="How often each step is taken, with a jump back between."
        ),
    ] = 5,
    recipe: Recipe = Recipe(),
    fit: common.FitOption = None,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_folder, help="Folder; by default inpainted/<picture> in the run."
        ),
    ] = None,
    settings: common.DataSetOption = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Keep one part of a picture and draw the other anew, by RePaint, under its own bits or a prior's.

    The folder holds the draws, a grid and a card. What is kept is equal in every draw, pixel for pixel.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError, did_you_mean

    named = [
        name for name, value in (("--mask", mask), ("--box", box), ("--half", half)) if value is not None
    ]
    if len(named) != 1:
        raise UserError(
            f"{' and '.join(named) or 'nothing'} to draw anew",
            "name one of: --mask MASK.png, --box X0,Y0,X1,Y1, --half left",
        )
    if bits not in ("image", "prior"):
        raise UserError(f"unknown --bits '{bits}'", did_you_mean(bits, ("image", "prior")))
    if bits == "image" and (prior is not None or candidates > 1):
        raise UserError(
            "--prior and --candidates mean nothing to --bits image", "leave them out, or use --bits prior"
        )
    corners = None if box is None else _corners(box)
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    chosen = find_run(run, fits=lambda found: found.config.model.dim > 0)
    common.tell_stopped(talk, chosen)
    if not chosen.config.model.dim:
        raise UserError(
            f"{chosen.path} has latent 'none', and so no bits to draw by", "train one with --latent bernoulli"
        )
    if bits == "prior":
        from dmzcli.codes.find import find_prior

        find_prior(chosen, prior)  # complains here and now
    from dmzcli.generation.inpaint import Gap, read_with_gap
    from dmzcli.generation.inpaint_card import Wish, inpaint_run
    from dmzcli.system.devices import pick

    where = pick(device)
    rule = fit or images_for(chosen, None, settings or ()).fit
    model = chosen.load_model(where)
    picture, known = read_with_gap(image, Gap(mask, corners, half), model.shape, rule)
    recipe = recipe.of(chosen).on(where, chosen.config).resolved(chosen.config.diffusion)
    wish = Wish(count, bits, prior, candidates, resample, seed)
    facts = inpaint_run(chosen, model, picture, known, image.name, wish, recipe, batch_size, out, talk)
    source = "its own bits" if facts["prior"] is None else f"bits of {facts['prior']['name']}"
    talk.result(
        facts,
        f"{facts['folder']}: {count:,} draws of {1 - facts['known_share']:.0%} of {image.name}, {source}",
    )


def _corners(text: str) -> tuple[int, int, int, int]:
    """The corners of a box.

    Raises:
        UserError: These are not four whole numbers.
    """
    from dmzcli.errors import UserError

    try:
        left, top, right, bottom = map(int, text.split(","))
    except ValueError as error:
        raise UserError(
            f"--box {text} is not four whole numbers", "for example --box 0,0,8,16: x0,y0,x1,y1"
        ) from error
    return left, top, right, bottom
