"""``dmz import-weights``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def import_weights(
    path: Annotated[
        Path,
        typer.Argument(
            help="A state dict of improved-diffusion or guided-diffusion (.pt, .safetensors), or a folder of "
            "diffusers' UNet2DModel."
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Argument(help="What to train on, as in dmz train; it can be named there instead."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="New run directory; by default runs/<name of PATH>.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=4, max=1024, help="Height and width of its images; a folder of diffusers says it."
        ),
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option("--heads", min=1, max=65536, help="Attention heads of a state dict; 4 is assumed."),
    ] = None,
    head_channels: Annotated[
        int | None,
        typer.Option(
            "--head-channels",
            min=1,
            max=65536,
            help="Channels of one head instead (guided-diffusion's num_head_channels).",
        ),
    ] = None,
    attention_order: Annotated[
        str,
        typer.Option(
            "--attention-order",
            help="Of q, k, v in a state dict: by-head, or by-role (use_new_attention_order).",
        ),
    ] = "by-head",
    latent: Annotated[
        str | None,
        typer.Option(
            "--latent", help="bernoulli, categorical, ordinal, or none for the plain diffusion model."
        ),
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", min=1, max=65536, help="|z|, the number of bits.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            max=bounds.MOST_TRAINING_SEED,
            help="Seed of the new layers, and of the training.",
        ),
    ] = None,
    settings: common.SetOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Make a run that starts from a diffusion model's published weights; dmz train goes on with it.

    New cross-attention starts at zero: the first output is the imported model's. import.json in the run lists
    what was loaded, what is new, what was left over and what was assumed.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.config import assignments
    from dmzcli.pretrained import check, read

    check(path, size, heads, head_channels, attention_order)
    assignments(settings or ())  # complains here and now
    from dmzcli.pretrained.run import import_weights as write
    from dmzcli.pretrained.run import prepare
    from dmzcli.runs import Run
    from dmzcli.runs.find import ROOT

    foreign = read(path, size, heads, head_channels, attention_order)
    flags: dict[str, dict[str, object]] = {
        "model": {"latent": latent, "bits": bits},
        "training": {"seed": seed},
    }
    config, assumed = prepare(foreign, dataset, flags, settings or [])
    name = path.resolve().name if path.is_dir() else path.stem
    where = Run(run or ROOT / name)
    outcome = write(foreign, config, assumed, where)
    talk.say(f"{foreign.file}: {outcome.loaded} tensors loaded, {outcome.parameters:,} parameters")
    for title, names in (("new", outcome.new), ("left over in the file", outcome.left_over)):
        talk.say(f"{title}: {', '.join(names) or 'nothing'}")
    for key, value in outcome.assumed.items():
        how = "--heads" if key == "model.heads" else f"--set {key}=..."
        talk.say(f"assumed: {key} = {value}; neither weights nor configuration say it; change it with {how}")
    facts = {"run": str(where.path), **vars(outcome), "config": config.model_dump(mode="json")}
    target = "" if config.data.dataset else " DATASET"
    use = f"dmz train{target} --run {where.path} trains it"
    if not config.model.dim:
        use += f"; dmz sample --run {where.path} samples it as it is"
    talk.result(
        facts,
        f"{where.path}: {outcome.loaded} tensors loaded, {len(outcome.new)} new, "
        f"{len(outcome.left_over)} left over; {use}",
    )
