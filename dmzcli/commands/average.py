"""``dmz average``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def average(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="A run trained with training.average=power; by default the newest.", metavar="[RUN]"
        ),
    ] = None,
    length: Annotated[
        float,
        typer.Option(
            "--length",
            min=0.01,
            max=0.28,
            callback=bounds.finite,
            help="Relative width: the deviation of the averaged steps, as a share of all steps so far.",
        ),
    ] = 0.1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            callback=bounds.new_folder,
            help="The run to write; by default <run>-average-<length>.",
        ),
    ] = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Average a run's weights over another length of its training, afterwards: a run of its own, for all commands.

    Short averages are the latest weights, long ones are steadier; which scores best is known only afterwards.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.runs import Run
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    chosen = find_run(run, None, lambda found: found.config.training.average == "power")
    target = Run(out or chosen.path.with_name(f"{chosen.path.name}-average-{length:g}"))
    data = images_for(chosen, None, settings or (), common.data_flags(data_dir, False))
    dataset = common.load_dataset(talk, data)
    from dmzcli.system.devices import pick
    from dmzcli.training.averages import average as write_average

    made = write_average(chosen, dataset, length, target, pick(device))
    facts = {"run": str(target.path), "of": str(chosen.path), "length": length}
    facts |= {"step": made.step, "distance": made.distance}
    talk.result(
        facts,
        f"{target.path}: the weights of {chosen.path} up to step {made.step:,}, averaged with length {length:g} "
        f"(its profile is {made.distance:.1%} off)",
    )
