"""``dmz sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import options as common


def sample(
    prior: Annotated[
        str | None,
        typer.Argument(help="A prior of the run by its kind, or a prior's folder; by default the newest."),
    ] = None,
    run: common.RunOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images.")] = 64,
    steps: common.StepsOption = 20,
    sampler: common.SamplerOption = "ancestral",
    spacing: common.SpacingOption = None,
    eta: common.EtaOption = 0.0,
    threshold: common.ThresholdOption = "clip",
    percentile: common.PercentileOption = 0.995,
    precision: common.PrecisionOption = "no",
    temperature: common.TemperatureOption = 1.0,
    given: Annotated[
        Path | None,
        typer.Option(
            "--given", help="A bit table to condition on; by default the one that the prior was fitted with."
        ),
    ] = None,
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
    from dmzcli.codes.find import can_sample, find_run_for
    from dmzcli.generation.decode import usual_batch
    from dmzcli.runs.find import find_run
    from dmzcli.system.devices import computing_in
    from dmzcli.system.processes import join

    chosen = find_run(run, fits=can_sample) if prior is None else find_run_for(prior, run)
    where = join(device)
    precision = computing_in(precision, where)
    model = chosen.load_model(where)
    from dmzcli.codes.draw import draw_bits
    from dmzcli.diffusion.samplers import sampler_class
    from dmzcli.generation.samples import Plan
    from dmzcli.generation.samples import sample as make_images

    source = draw_bits(chosen, model.dim, prior, count, seed, temperature, given)
    plan = Plan(
        model=chosen.weights_hash,
        prior=source.name,
        prior_hash=source.sha256,
        count=count,
        seed=seed,
        sampler=sampler,
        steps=steps,
        spacing=spacing or sampler_class(sampler).usual_spacing(model.config.diffusion),
        eta=eta,
        temperature=temperature,
        threshold=threshold,
        percentile=percentile,
        precision=precision,
    )
    folder = out or chosen.samples / plan.folder_name()
    talk.say(f"sampling {count:,} images from {chosen.path} with bits from {source.name} into {folder}")
    make_images(model, source.bits, plan, folder, batch_size or usual_batch(model), talk)
    facts = {"samples": str(folder), "run": str(chosen.path), **vars(plan)}
    talk.result(facts, f"{folder}: {count:,} images, {sampler}, {steps} steps, prior {source.name}")
