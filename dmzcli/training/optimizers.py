"""Optimizers by name: what takes a step along the gradients, and its state in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dmzcli.config import TrainingConfig


class AdamW:
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, 2019, arXiv 1711.05101), as PyTorch has it.

    Arguments:
        parameters: By name, where they are trained.
        config: Rate and weight decay.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: TrainingConfig) -> None:
        self._parameters = parameters
        self._inner = torch.optim.AdamW(
            parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def step(self, rate: float) -> None:
        """One step at a learning rate."""
        for group in self._inner.param_groups:
            group["lr"] = rate
        self._inner.step()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter."""
        return {
            f"{name}.{key}": value
            for name, parameter in self._parameters.items()
            for key, value in self._inner.state.get(parameter, {}).items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them.

        Raises:
            KeyError: A moment is missing.
            RuntimeError: A moment has another shape.
        """
        for name, parameter in self._parameters.items():
            step, *moments = (state[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq"))
            first, second = (torch.empty_like(parameter).copy_(moment) for moment in moments)  # same layout
            self._inner.state[parameter] = {
                "step": step.to(parameter.device),
                "exp_avg": first,
                "exp_avg_sq": second,
            }


def create(model: nn.Module, config: TrainingConfig) -> AdamW:
    """The optimizer that the settings name, of a model's parameters."""
    return AdamW(dict(model.named_parameters()), config)
