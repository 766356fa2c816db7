"""What training needs to go on: one file of the tensors of its parts, and the facts that they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dmzcli.config import Config, parse
from dmzcli.config.sections import MOST
from dmzcli.errors import UserError
from dmzcli.system import processes
from dmzcli.system.files import first_not_finite, load_tensors, save_tensors
from dmzcli.system.reading import loads_object

KEY = "dmz-train-state"
Facts = dict[str, Any]


class Part(Protocol):
    """Something of a training that a checkpoint holds."""

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them.

        Raises:
            KeyError: One is missing.
            ValueError, RuntimeError: One has another shape.
        """


class Weights:
    """A module as a part: its parameters and buffers."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        return self.module.state_dict()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them."""
        self.module.load_state_dict(dict(state))


class Sums(dict[str, Tensor]):
    """Sums of loss terms since the last logged step, by name; scalars on the training's device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def add(self, name: str, value: Tensor) -> None:
        """Adds the mean of a loss term."""
        self[name] = self.get(name, 0) + value.detach().mean()

    def share(self) -> None:
        """Makes them those of all processes; a second time changes nothing."""
        if self:
            shared = processes.mean(torch.stack([value.float() for value in self.values()]))
            self.update(zip(tuple(self), shared.unbind(), strict=True))

    def state(self) -> dict[str, Tensor]:
        """The sums."""
        return dict(self)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them."""
        self.clear()
        self.update({name: value.to(self._device) for name, value in state.items()})


def write(file: Path, parts: Mapping[str, Part], facts: Facts) -> None:
    """Writes a checkpoint, whole or not at all.

    Arguments:
        file: Where.
        parts: By name, without a dot.
        facts: ``step``, ``logged``, ``experiment``, ``dataset``, and more that JSON can hold.
    """
    tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state().items()}
    save_tensors(file, tensors, {KEY: json.dumps(facts, sort_keys=True)})


def read(file: Path, parts: Mapping[str, Part], config: Config, dataset: str) -> Facts:
    """Takes the parts back to a checkpoint.

    Returns:
        Its facts.

    Raises:
        UserError: The file is damaged, or of another experiment.
    """
    tensors, metadata = load_tensors(file)
    try:
        facts = loads_object(metadata[KEY])
        _check_continues(file, facts, config, dataset)
        if not 0 <= int(facts["logged"]) <= int(facts["step"]) <= MOST:
            raise ValueError(f"its step is {facts['step']}")
        bad = first_not_finite(tensors)
        if bad is not None:
            raise ValueError(f"{bad} holds numbers that are not finite")
        states: dict[str, dict[str, Tensor]] = {name: {} for name in parts}
        for name, value in tensors.items():
            part, _, key = name.partition(".")
            states[part][key] = value
        for name, state in states.items():
            parts[name].restore(state)
    except (KeyError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise UserError(
            f"{file} is no checkpoint of this model: {error}", "start anew with another --run"
        ) from error
    return facts


def _check_continues(file: Path, facts: Facts, config: Config, dataset: str) -> None:
    if facts["dataset"] != dataset:
        raise UserError(
            f"{file.parent.parent} was trained on {facts['dataset']}, but the dataset is now {dataset}",
            "restore the dataset, or start anew with another --run",
        )
    # Settings that came after the checkpoint was written were at their defaults.
    if parse(facts["experiment"], str(file)).experiment() != config.experiment():
        raise UserError(f"{file} is a checkpoint of other settings", "start anew with another --run")
