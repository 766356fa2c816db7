"""Power-function averages of two widths, kept from time to time, so that any other can be made of them afterwards.

T. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, arXiv 2312.02696,
section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dmzcli.system.files import save_tensors
from dmzcli.training.ema import Average, power

LENGTHS = (0.05, 0.10)
"""The tracked relative widths; EDM2's."""
RATIO = 1.12
"""Of the steps of neighbouring snapshots."""
FIRST = 32
"""Earlier snapshots serve no width."""
KEPT = 1 / 20
"""Share of the steps from which on snapshots are kept: an average hardly counts earlier weights."""
PART = "snapshots"
"""The checkpoint's part that holds the averages as they are now."""


def due(step: int) -> bool:
    """Whether a snapshot is kept after ``step`` steps; the same steps however long the run becomes."""
    place = [int(math.log(max(each, 1), RATIO)) for each in (step - 1, step)]
    return step >= FIRST and place[0] < place[1]


class Snapshots:
    """The tracked averages of a training, and their files.

    Arguments:
        model: The model as it starts.
        folder: Where snapshots are kept; ``None`` keeps none (another process does).
    """

    def __init__(self, model: nn.Module, folder: Path | None) -> None:
        self._averages = {length: Average(model, power(length)) for length in LENGTHS}
        self._folder = folder

    def update(self, model: nn.Module, step: int) -> None:
        """Moves the averages towards the weights that ``step`` steps made; keeps a snapshot where one is due."""
        for average in self._averages.values():
            average.update(model, step)
        if self._folder is not None and due(step):
            halves = {name: value.half() for name, value in self.state().items()}
            save_tensors(self._folder / f"{step:09d}.safetensors", halves, {"dmz-average": str(step)})
            for file in self._folder.glob("*.safetensors"):
                if int(file.stem) < KEPT * step:
                    file.unlink()

    def state(self) -> dict[str, Tensor]:
        """The averages as they are."""
        return {
            f"{length:g}/{name}": value
            for length, average in self._averages.items()
            for name, value in average.model.named_parameters()
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them.

        Raises:
            KeyError: A parameter is missing.
            RuntimeError: A parameter has another shape.
        """
        for name, value in self.state().items():
            value.copy_(state[name])
