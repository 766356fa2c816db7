"""``dmz sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import common


def sample(
    prior: Annotated[
        str | None,
        typer.Argument(help="A prior of the run by its kind, or a prior's folder; by default the newest."),
    ] = None,
    run: common.RunOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images.")] = 64,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="T, evaluations of the network per image.")
    ] = 20,
    sampler: Annotated[
        str,
        typer.Option(
            "--sampler",
            help="ancestral and dpm++-sde add noise at every step; ddim, dpm++ (2M) and unipc follow the ODE.",
        ),
    ] = "ancestral",
    spacing: Annotated[
        str | None,
        typer.Option(
            "--spacing",
            help="Which timesteps: uniform, ddim, leading, trailing, quadratic, log-snr; by default the sampler's own.",
        ),
    ] = None,
    eta: Annotated[
        float, typer.Option("--eta", help="DDIM's noise: 0 none, 1 as much as the ancestral sampler.")
    ] = 0.0,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            help="How each estimate of the image is bounded: clip to [-1, 1], dynamic (scaled down by a percentile "
            "of its own pixels), or none.",
        ),
    ] = "clip",
    percentile: Annotated[
        float, typer.Option("--percentile", help="Of the dynamic threshold, above 0 and up to 1.")
    ] = 0.995,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of the prior; below 1 its likelier codes.")
    ] = 1.0,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; by default samples/<plan> in the run.")
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Generate images from a prior's bits: PNG files, one .npz, and a grid; the same command again resumes."""
    talk = common.console(quiet, as_json)
    from dmzcli.devices import pick
    from dmzcli.prior_fitting import can_sample, find_run_for
    from dmzcli.runs import find_run

    chosen = find_run(run, fits=can_sample) if prior is None else find_run_for(prior, run)
    model = chosen.load_model(pick(device))
    from dmzcli.samplers import sampler_class
    from dmzcli.sampling import Plan, draw_bits
    from dmzcli.sampling import sample as make_images

    source = draw_bits(chosen, model.dim, prior, count, seed, temperature)
    plan = Plan(
        model=chosen.weights_hash,
        prior=source.name,
        prior_hash=source.sha256,
        count=count,
        seed=seed,
        sampler=sampler,
        steps=steps,
        spacing=spacing or sampler_class(sampler).spacing,
        eta=eta,
        temperature=temperature,
        threshold=threshold,
        percentile=percentile,
    )
    folder = out or chosen.samples / plan.folder_name()
    talk.say(f"sampling {count:,} images from {chosen.path} with bits from {source.name} into {folder}")
    make_images(model, source.bits, plan, folder, batch_size or 64, talk)
    facts = {"samples": str(folder), "run": str(chosen.path), **vars(plan)}
    talk.result(facts, f"{folder}: {count:,} images, {sampler}, {steps} steps, prior {source.name}")
