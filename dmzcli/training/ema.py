"""Averages of weights over the steps of training."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class Average(Generic[Model]):
    """Exponential moving average of a model's weights; buffers (batch-norm statistics) are left to be measured.

    The decay starts low, min(decay, (1 + n) / (10 + n)), so that short runs are no averages of noise.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves towards the weights that ``step`` steps made."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
