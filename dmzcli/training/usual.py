"""Settings for pictures that no preset knows, on a CPU: small enough to show something within half an hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dmzcli.config import Config
from dmzcli.runs import Run
from dmzcli.runs.find import ROOT
from dmzcli.runs.plan import Plan
from dmzcli.system import processes
from dmzcli.system.devices import pick
from dmzcli.system.progress import Talk, duration
from dmzcli.training.cost import measure

Facts = dict[str, Any]
MINUTES = 25.0
"""What a training takes where nobody says how long, validation and pictures not counted."""
FEWEST, MOST = 200, 20_000
"""Steps at least, however slow the machine, and at most."""


def small(size: int) -> dict[str, dict[str, Any]]:
    """Settings for images of a size, as a preset has them.

    Up to four levels, the lowest of 4 pixels or more, and batches of 64 that shrink from 64×64 on, so that a step takes
    some 3 GB at most.
    """
    levels = 1
    while levels < 4 and size % 2**levels == 0 and size >> levels >= 4:
        levels += 1
    return {
        "model": {"channels": 32, "multipliers": [1, 2, 2, 2][:levels], "blocks": 1},
        # It learns more in few steps than the noise: benchmarks/results/few-steps.md
        "diffusion": {"prediction": "v", "weighting": "min-snr"},
        "training": {
            "steps": 2000,
            "batch_size": max(4, min(64, 64 * 64**2 // size**2)),
            "optimizer": "muon",  # benchmarks/results/quality.md
            "learning_rate": 2e-3,
            "warmup": 100,
            "ema": 0.995,
            "valid_every": 250,
            "sample_every": 500,
            "checkpoint_every": 125,
        },
    }


def without_preset(
    wanted: Plan, planned: Callable[..., Plan], run: Path | None, size: int, device: str | None
) -> Plan:
    """The plan for pictures that no preset knows: small settings on a CPU, the general defaults on a GPU.

    Arguments:
        wanted: The plan with the general defaults.
        planned: Makes the plan anew, of a run directory and settings in the place of a preset.
        run: The named run directory, if any.
        size: The images'.
        device: As the commands name it.
    """
    there = ROOT / f"{wanted.name}{wanted.ending}"
    if run is None and Run(there).settings.exists():
        return planned(there)  # the same command again goes on, whatever is usual by now
    if pick(device).type != "cpu":
        return wanted
    return planned(run, small(size))


def chosen_steps(max_steps: int | None, settings: Sequence[str]) -> bool:
    """Whether the user says how long to train."""
    return max_steps is not None or any(each.startswith("training.steps=") for each in settings)


def lasting(
    config: Config, run: Run, device: str | None, talk: Talk, max_hours: float | None = None
) -> tuple[Config, Facts]:
    """Settings for pictures that no preset knows, with as many steps as :data:`MINUTES` allow on this CPU.

    On a GPU, and in several processes, they stay as they are; a run that has settings keeps its steps.

    Arguments:
        config: Resolved.
        run: The run directory.
        device: As the commands name it.
        talk: Told what was chosen, and how long it takes.
        max_hours: How long at most, where that is said.

    Returns:
        The settings, and what was measured for them; empty if nothing was.
    """
    if run.settings.exists():
        there = run.config.training
        same = {name: getattr(there, name) for name in ("steps", *_EVERY)}
        return config.model_copy(update={"training": config.training.model_copy(update=same)}), {}
    if pick(device).type != "cpu" or processes.ranks() > 1:
        return config, {}
    talk.say("no preset is for these pictures: small settings for a CPU; a few steps are measured")
    minutes = MINUTES if max_hours is None else 60 * max_hours
    return within(config, device, minutes, FEWEST, MOST, talk)


def within(
    config: Config, device: str | None, minutes: float, fewest: int, most: int, talk: Talk
) -> tuple[Config, Facts]:
    """The settings with as many steps as some minutes allow on a device, by measuring a few.

    Arguments:
        config: Resolved.
        device: As the commands name it.
        minutes: How long, validation and pictures not counted.
        fewest, most: Steps at least, however slow the device, and at most.
        talk: Told how long it takes.

    Returns:
        The settings, and what :func:`~dmzcli.training.cost.measure` said.
    """
    facts = measure(config, device)
    batch = config.training.batch_size
    if facts.get("why_not"):
        steps, takes = min(fewest, config.training.steps), f"how long is not known: {facts['why_not']}"
    else:
        seconds = facts["seconds_per_1000_steps"] / 1000
        steps = min(most, max(fewest, int(60 * minutes / seconds)))
        steps -= steps % 10 ** max(0, len(str(steps)) - 2)  # two digits
        takes = f"about {duration(steps * seconds)} at {seconds:.2g} s a step"
    talk.say(f"{steps:,} steps of {batch} images, {takes}")
    every = {name: min(getattr(config.training, name), max(1, steps // 4)) for name in _EVERY}
    training = config.training.model_copy(update={"steps": steps, **every})
    return config.model_copy(update={"training": training}), facts


_EVERY = ("valid_every", "sample_every", "checkpoint_every")
