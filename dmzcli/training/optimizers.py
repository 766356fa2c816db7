"""Optimizers by name: what takes a step along the gradients, and its state in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from dmzcli.config import TrainingConfig

Parameters = Mapping[str, nn.Parameter]
MATRIX = 16
"""Least inputs and outputs of a layer whose weights are steered as a matrix: neither pixels nor what is predicted."""

MOMENTUM = 0.95


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
            [{"params": list(parameters.values())}], lr=rate, betas=betas, weight_decay=decay, fused=True
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
    r"""Orthogonal steps for matrices, and AdamW's for all other parameters.

    With the momentum B ← μ B + (1 − μ) G and the look-ahead (1 − μ) G + μ B = U S Vᵀ, a matrix takes the step U Vᵀ,
    nearly, by five Newton–Schulz iterations. It is scaled by 0.2 √(larger side), which gives it the size of AdamW's, so
    that one rate serves both (Liu et al. 2025, section 2.2).

    A convolution is a matrix of (outputs, inputs × kernel). Weights with fewer than :data:`MATRIX` inputs or outputs,
    so those next to the pixels, are AdamW's. PyTorch's own Muon takes one matrix at a time and iterates in bf16, which
    a CPU without it pays for twelve times over; here equal shapes go together, in float32 on a CPU.

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    J. Liu et al., "Muon is Scalable for LLM Training", 2025, arXiv 2502.16982.

    Arguments:
        parameters: Those that are trained, by name.
        config: Rate and weight decay.
    """

    def __init__(self, parameters: Parameters, config: TrainingConfig) -> None:
        self._decay = config.weight_decay
        self._shapes: dict[tuple[int, int], dict[str, nn.Parameter]] = {}
        for name, each in parameters.items():
            if each.ndim > 1 and min(each.shape[:2]) >= MATRIX:
                self._shapes.setdefault((each.shape[0], each[0].numel()), {})[name] = each
        self._momenta = {
            shape: torch.zeros(len(alike), *shape, device=next(iter(alike.values())).device)
            for shape, alike in self._shapes.items()
        }
        matrices = {name for alike in self._shapes.values() for name in alike}
        self._others = AdamW(
            {name: each for name, each in parameters.items() if name not in matrices}, config
        )

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at a learning rate."""
        for shape, alike in self._shapes.items():
            gradients = torch.stack(
                [
                    (torch.zeros_like(each) if each.grad is None else each.grad).flatten(1)
                    for each in alike.values()
                ]
            )
            momenta = self._momenta[shape]
            momenta.lerp_(gradients, 1 - MOMENTUM)
            steps = orthogonal(gradients.lerp_(momenta, MOMENTUM)) * (0.2 * math.sqrt(max(shape)))
            for each, step in zip(alike.values(), steps, strict=True):
                each.mul_(1 - rate * self._decay).add_(step.view_as(each), alpha=-rate)
        self._others.step(rate)

    def _named(self) -> dict[str, Tensor]:
        return {
            f"{name}.momentum_buffer": momentum
            for shape, alike in self._shapes.items()
            for name, momentum in zip(alike, self._momenta[shape], strict=True)
        }

    def state(self) -> dict[str, Tensor]:
        """Momenta, as matrices, and the others' moments."""
        return {**self._named(), **self._others.state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to them.

        Raises:
            KeyError: A momentum is missing.
            RuntimeError: A momentum has another shape.
        """
        for name, momentum in self._named().items():
            momentum.copy_(state[name])
        self._others.restore(state)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (K, M, N) with singular values near 1 (.7 to 1.2) in the place of their own; singular vectors stay.

    Five iterations X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, with Jordan's coefficients, which trade exactness for speed.
    """
    work = matrices.to(torch.float32 if matrices.device.type == "cpu" else torch.bfloat16)
    wide = matrices.shape[1] <= matrices.shape[2]
    x = work if wide else work.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


_OPTIMIZERS = {"adamw": AdamW, "muon": Muon}


def create(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The optimizer that the settings name, of a model's parameters."""
    optimizer: Optimizer = _OPTIMIZERS[config.optimizer](dict(model.named_parameters()), config)
    return optimizer
