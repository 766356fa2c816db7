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

MINUTES = 25.0
"""What a training takes where nobody says how long, validation and pictures not counted."""
FEWEST, MOST = 200, 20_000
"""Steps at least, however slow the machine, and at most."""


def small(size: int) -> dict[str, dict[str, Any]]:
    """Settings for images of a size, as a preset has them: up to four levels, the lowest of 4 pixels or more."""
    levels = 1
    while levels < 4 and size % 2**levels == 0 and size >> levels >= 4:
        levels += 1
    return {
        "model": {"channels": 32, "multipliers": [1, 2, 2, 2][:levels], "blocks": 1},
        "diffusion": {
            "prediction": "v"
        },  # learns more in few steps than the noise: benchmarks/results/few-steps.md
        "training": {
            "steps": 2000,
            "batch_size": 64,
            "learning_rate": 6e-4,
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
    there = ROOT / wanted.name
    if (
        run is None and Run(there).settings.exists()
    ):  # the same command again goes on, whatever is usual by now
        return planned(there)
    if pick(device).type != "cpu":
        return wanted
    return planned(run, small(size))


def chosen_steps(max_steps: int | None, settings: Sequence[str]) -> bool:
    """Whether the user says how long to train."""
    return max_steps is not None or any(each.startswith("training.steps=") for each in settings)


def lasting(config: Config, device: str | None, talk: Talk) -> Config:
    """Settings for pictures that no preset knows, with as many steps as :data:`MINUTES` allow on this CPU.

    On a GPU, and in several processes, they stay as they are.

    Arguments:
        config: Resolved.
        device: As the commands name it.
        talk: Told what was chosen, and how long it takes.
    """
    if pick(device).type != "cpu" or processes.ranks() > 1:
        return config
    talk.say("no preset is for these pictures: small settings for a CPU; a few steps are measured")
    return within(config, device, MINUTES, FEWEST, MOST, talk)


def within(config: Config, device: str | None, minutes: float, fewest: int, most: int, talk: Talk) -> Config:
    """The settings with as many steps as some minutes allow on a device, by measuring a few.

    Arguments:
        config: Resolved.
        device: As the commands name it.
        minutes: How long, validation and pictures not counted.
        fewest, most: Steps at least, however slow the device, and at most.
        talk: Told how long it takes.
    """
    facts = measure(config, device)
    batch = config.training.batch_size
    if facts.get("why_not"):
        talk.say(
            f"{config.training.steps:,} steps of {batch} images; how long is not known: {facts['why_not']}"
        )
        return config
    seconds = facts["seconds_per_1000_steps"] / 1000
    steps = min(most, max(fewest, int(60 * minutes / seconds)))
    steps -= steps % 10 ** max(0, len(str(steps)) - 2)  # two digits
    every = {name: min(getattr(config.training, name), max(1, steps // 4)) for name in _EVERY}
    talk.say(
        f"{steps:,} steps of {batch} images, about {duration(steps * seconds)} at {seconds:.2g} s a step"
    )
    training = config.training.model_copy(update={"steps": steps, **every})
    return config.model_copy(update={"training": training})


_EVERY = ("valid_every", "sample_every", "checkpoint_every")
