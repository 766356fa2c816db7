"""``dmz report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def report(
    run: Annotated[
        Path | None, typer.Argument(help="Run directory; by default the newest.", metavar="[RUN]")
    ] = None,
    named: common.RunOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_file, help="The page's file; by default report.html in the run."
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=1, max=bounds.MOST_STEPS, help="T of the reconstructions.")
    ] = 20,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Write a page on a run: facts, curves, reconstructions, priors, samples, scores and probe, as far as there are.

    One HTML file with every picture inside. Only the reconstructions are computed, where the run's dataset is there.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    if run is not None and named is not None:
        raise UserError(f"two runs are named: {run} and {named}", "name one of them")
    chosen = find_run(run or named)
    from dmzcli.reports.gather import gather
    from dmzcli.reports.run_page import write_report
    from dmzcli.system.devices import pick

    where = pick(device)
    common.tell_stopped(talk, chosen)
    dataset = model = None
    if chosen.weights.exists() and chosen.config.model.dim:
        data = images_for(chosen, None, settings or (), common.data_flags(data_dir, False))
        try:
            dataset = common.load_dataset(talk, data)
        except UserError as error:
            if settings or data_dir is not None:
                raise
            talk.say(f"no reconstructions: {error.message}; {error.hint}")
        if dataset is not None:
            model = chosen.load_model(where)
            model.check_images(dataset.images, "take the dataset that the run was trained on")
            steps = min(steps, chosen.config.diffusion.timesteps)
    page = gather(chosen, dataset, model, steps)
    file = write_report(page, out or chosen.path / "report.html")
    for what, command in page.absent.items():
        talk.say(f"no {what} yet: {command}")
    sections = {
        "training": page.curves,
        "reconstructions": page.reconstructions,
        "priors": page.priors,
        "samples": page.samples,
        "scores": page.scores or page.measures,
        "probe": page.probes,
    }
    there = [name for name, content in sections.items() if content]
    talk.result(
        {"report": str(file), "run": str(chosen.path), "sections": there, "absent": page.absent},
        f"{file}: {', '.join(['facts', *there])}",
    )
