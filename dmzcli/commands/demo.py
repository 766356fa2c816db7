"""``dmz demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def demo(
    run: Annotated[Path, typer.Option("--run", help="Run directory.")] = Path("runs/demo"),
    max_steps: Annotated[
        int | None,
        typer.Option(
            "--max-steps", min=1, max=bounds.MOST_STEPS, help="Optimizer steps, for a shorter demo."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            max=bounds.MOST_TRAINING_SEED,
            help="Seed of everything random.",
        ),
    ] = 0,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Everything once, on scikit-learn's digits: train, encode, fit priors, sample, probe, and a report.

    A few minutes on a CPU, no download. The same command again resumes.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.commands.console import table
    from dmzcli.studies.demo import run_demo

    facts = run_demo(run, max_steps, seed, device, talk)
    talk.result(facts, table(f"dmz demo: {facts['run']}, {facts['seconds']:.0f} s", facts["results"]))
    talk.say(f"report: {facts['report']}")
