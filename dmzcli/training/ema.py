r"""Averages of weights over the steps of training.

After step n the average moves towards the weights: θ̄ ← β_n θ̄ + (1 − β_n) θ, with one of two laws for β_n.

``exponential``
    min(β, (1 + n) / (10 + n)): of a fixed width in steps, smaller at the start.
``power``
    (1 − 1/n)^{γ + 1}: the weights of step m count in proportion to about m^γ, so that the width is a share of the
    steps so far. Its relative width is σ = √((γ + 1) / ((γ + 2)² (γ + 3))).

T. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, arXiv 2312.02696,
section 3 and appendix C.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import nn

from dmzcli.config import TrainingConfig

Model = TypeVar("Model", bound=nn.Module)
Law = Callable[[int], float]


def exponential(decay: float) -> Law:
    """The law of a fixed decay, that starts low, so that short runs are no averages of noise."""
    return lambda step: min(decay, (1 + step) / (10 + step))


def power(length: float) -> Law:
    """The law of a relative width σ, above 0 and below 0.2887."""
    exponent = gamma(length) + 1
    return lambda step: (1 - 1 / step) ** exponent


def gamma(length: float) -> float:
    """γ of a relative width σ: the positive root of (γ + 2)² (γ + 3) σ² = γ + 1.

    Raises:
        ValueError: No γ > 0 has this width.
    """
    # γ³ + 7 γ² + (16 − 1/σ²) γ + (12 − 1/σ²) = 0
    roots = np.roots([1, 7, 16 - length**-2, 12 - length**-2])
    largest = max(root.real for root in roots if abs(root.imag) < 1e-9)
    if largest <= 0:
        raise ValueError(f"no power function has the relative width {length}")
    return float(largest)


def law(training: TrainingConfig) -> Law:
    """The law that the settings name."""
    return power(training.average_length) if training.average == "power" else exponential(training.ema)


class Average(Generic[Model]):
    """A moving average of a model's weights; buffers (batch-norm statistics) are left to be measured.

    Arguments:
        model: The model as it starts.
        law: β_n by the number of steps n.
    """

    def __init__(self, model: Model, law: Law) -> None:
        self.law = law
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves towards the weights that ``step`` steps made."""
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - self.law(step))
