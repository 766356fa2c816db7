"""Optimizers by name: what takes a step along the gradients, and its state in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from dmzcli.config import TrainingConfig

Parameters = Mapping[str, nn.Parameter]
MATRIX = 16
"""Least inputs and outputs of a layer whose weights are steered as a matrix: neither pixels nor what is predicted."""


class Optimizer(Protocol):
    """A step along the gradients, and what a checkpoint holds of it; see :class:`~dmzcli.training.checkpoint.Part`."""

    def step(self, rate: float) -> None:
        """One step at a learning rate."""

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them."""


def _state(optimizer: torch.optim.Optimizer, parameters: Parameters) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restored(state: Mapping[str, Tensor], name: str, key: str, parameter: Tensor) -> Tensor:
    """A moment as it was stored, in the memory layout of its parameter."""
    return torch.empty_like(parameter, requires_grad=False).copy_(state[f"{name}.{key}"])


class AdamW:
    """Adam with decoupled weight decay, as PyTorch has it.

    I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019, arXiv 1711.05101.

    Arguments:
        parameters: Those that are trained, by name.
        config: Rate and weight decay.
        betas: Decays of the two moments.
    """

    def __init__(
        self, parameters: Parameters, config: TrainingConfig, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self._parameters = parameters
        decay, rate = config.weight_decay, config.learning_rate
        self._inner = torch.optim.AdamW(
            parameters.values(), lr=rate, betas=betas, weight_decay=decay, fused=True
        )

    def step(self, rate: float) -> None:
        """One step at a learning rate."""
        for group in self._inner.param_groups:
            group["lr"] = rate
        self._inner.step()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter."""
        return _state(self._inner, self._parameters)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them.

        Raises:
            KeyError: A moment is missing.
            RuntimeError: A moment has another shape.
        """
        for name, parameter in self._parameters.items():
            self._inner.state[parameter] = {
                "step": state[f"{name}.step"].to(parameter.device),
                **{key: _restored(state, name, key, parameter) for key in ("exp_avg", "exp_avg_sq")},
            }


class Muon:
    """Orthogonal steps for matrices, as PyTorch's Muon takes them, and AdamW's for all other parameters.

    A convolution is a matrix of (outputs, inputs × kernel). Weights with fewer than :data:`MATRIX` inputs or outputs,
    so those next to the pixels, are AdamW's. Steps have the size of AdamW's, so that one rate serves both (J. Liu et
    al., "Muon is Scalable for LLM Training", 2025, arXiv 2502.16982, section 2.2).

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    Arguments:
        parameters: Those that are trained, by name.
        config: Rate and weight decay.
    """

    def __init__(self, parameters: Parameters, config: TrainingConfig) -> None:
        self._whole = {
            name: each for name, each in parameters.items() if each.ndim > 1 and min(each.shape[:2]) >= MATRIX
        }
        self._matrices = {name: nn.Parameter(_matrix(each.data)) for name, each in self._whole.items()}
        self._inner = torch.optim.Muon(
            list(self._matrices.values()),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        others = {name: each for name, each in parameters.items() if name not in self._whole}
        self._others = AdamW(others, config)

    def step(self, rate: float) -> None:
        """One step at a learning rate."""
        for name, matrix in self._matrices.items():
            gradient = self._whole[name].grad
            matrix.grad = None if gradient is None else _matrix(gradient)
        for group in self._inner.param_groups:
            group["lr"] = rate
        self._inner.step()
        self._others.step(rate)

    def state(self) -> dict[str, Tensor]:
        """Momenta, as matrices, and the others' moments."""
        return {**_state(self._inner, self._matrices), **self._others.state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them.

        Raises:
            KeyError: A momentum is missing.
            RuntimeError: A momentum has another shape.
        """
        for name, matrix in self._matrices.items():
            self._inner.state[matrix] = {"momentum_buffer": _restored(state, name, "momentum_buffer", matrix)}
        self._others.restore(state)


def _matrix(weight: Tensor) -> Tensor:
    """A weight (outputs, inputs, …) as a matrix that shares its memory; the order of its columns does not matter."""
    if weight.ndim == 4 and not weight.is_contiguous():
        weight = weight.permute(0, 2, 3, 1)  # channels last
    return weight.reshape(len(weight), -1)


_OPTIMIZERS = {"adamw": AdamW, "muon": Muon}


def create(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The optimizer that the settings name, of a model's parameters."""
    optimizer: Optimizer = _OPTIMIZERS[config.optimizer](dict(model.named_parameters()), config)
    return optimizer
