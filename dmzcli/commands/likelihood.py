"""``dmz likelihood``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def likelihood(
    run: common.RunOption = None,
    split: Annotated[str, typer.Option("--split", help="train, valid or test.")] = "test",
    count: Annotated[
        int,
        typer.Option(
            "--count",
            "-n",
            min=1,
            max=bounds.MOST_IMAGES,
            help="Images at most, evenly spread over the split.",
        ),
    ] = 256,
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            min=1,
            max=bounds.MOST_STEPS,
            help="Draw one of up to so many timesteps at a time for each image; 1 takes all, 10 is the default.",
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior", help="Add what the bits cost under this prior, a kind of the run or a folder."
        ),
    ] = None,
    seed: common.SeedOption = 0,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", callback=bounds.new_folder, help="Folder; by default evaluation/ in the run."),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Bits per dimension of held-out images: the variational bound and its term at every timestep.

    For a model with bits it bounds -log p(x | z(x)), and the bits themselves are free unless --prior prices them.
    Written as likelihood-<split>.json and .png, with the prior's kind in the name where one is given.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.evaluation.limits import check_split
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    check_split(split)
    chosen = find_run(run)
    common.tell_stopped(talk, chosen)
    if prior is not None and chosen.config.model.dim:
        from dmzcli.codes.find import find_prior

        find_prior(chosen, prior)  # complains here and now
    from dmzcli.evaluation.likelihood import measure
    from dmzcli.system.devices import pick

    model = chosen.load_model(pick(device))
    data = images_for(chosen, None, settings or (), common.data_flags(data_dir, False))
    dataset = common.load_dataset(talk, data)
    talk.say(f"measuring {chosen.path} on the {split} split of {dataset.identity}")
    facts, file = measure(
        chosen,
        model,
        dataset,
        split,
        count,
        every or min(10, chosen.config.diffusion.timesteps - 1),
        prior,
        seed,
        out or chosen.path / "evaluation",
        batch_size or 64,
        talk,
    )
    large = facts["bits_per_dim_fixed_large"]
    if large is not None:
        talk.say(
            f"the run's reverse variance is fixed-small, which is for sampling: with fixed-large the same network's "
            f"bound is {large:.4f}"
        )
    error = "" if facts["standard_error"] is None else f" ± {facts['standard_error']:.4f}"
    talk.result(
        {"card": str(file), **facts},
        f"{file}: {facts['bits_per_dim']:.4f}{error} bits per dimension, a bound on {facts['bounds']}, "
        f"on {facts['images']:,} {split} images",
    )
