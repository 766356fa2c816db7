r"""Batch normalization of a batch that several processes share.

    y = γ (x − μ) / √(σ² + ε) + β,    μ, σ² over the images of all processes and their pixels.

So the parts of a batch are normalized as the whole is in one process, on every device that torch's collective
operations know; ``torch.nn.SyncBatchNorm`` computes the same on GPUs only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Mean(torch.autograd.Function):
    """The mean of a tensor over the processes, all of which use it: gradients add up over them as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        distributed.all_reduce(x)
        return x / distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient / distributed.get_world_size()


def over_processes(mean: Tensor) -> Tensor:
    """The mean over the processes of a mean over equal parts, with its gradient; in one process, the mean itself."""
    return _Mean.apply(mean) if _several() else mean


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with the moments of the whole batch over all processes, in equal parts.

    In evaluation, and in one process, it is ``torch.nn.BatchNorm2d`` itself; names and buffers are always the same.

    Attributes:
        alone: Whether the moments are those of this process's part alone.
    """

    alone: bool = False

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) of the same shape."""
        if not self.training or self.alone or not _several():
            return super().forward(input)
        x = input.float()
        mean = _Mean.apply(x.mean((0, 2, 3)))
        centered = x - mean[:, None, None]
        variance = _Mean.apply(centered.square().mean((0, 2, 3)))
        self._remember(
            mean.detach(), variance.detach(), x.numel() // x.shape[1] * distributed.get_world_size()
        )
        scale = (variance + self.eps).rsqrt() * self.weight
        return torch.addcmul(self.bias[:, None, None], centered, scale[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics, of which the variance is the unbiased one of ``count`` values."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


@torch.no_grad()
def remeasure(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets the running statistics to a network's own moments over all images of some batches.

    Averaged weights are those of no step: the moments that training kept are of other weights, and move bits whose
    probability is near one half. The variance is that of all images: within the batches, and between their means.

    Arguments:
        network: Left in evaluation mode.
        batches: Inputs of the network, (B, C, H, W); each process passes the same ones.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    sums = [torch.zeros(2, layer.num_features, dtype=torch.float64) for layer in layers]
    images = 0
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum, layer.alone = 1.0, True  # what is kept is the last batch's
        layer.train()
    for batch in batches:
        network(batch)
        images += len(batch)
        for layer, total in zip(layers, sums, strict=True):
            assert layer.running_mean is not None and layer.running_var is not None
            mean, variance = (value.cpu().double() for value in (layer.running_mean, layer.running_var))
            total += len(batch) * torch.stack([mean, variance + mean**2])
    for layer, momentum, total in zip(layers, momenta, sums, strict=True):
        layer.momentum, layer.alone = momentum, False
        if images:
            assert layer.running_mean is not None and layer.running_var is not None
            mean, square = total / images
            layer.running_mean.copy_(mean.float())
            layer.running_var.copy_((square - mean**2).float())
    network.eval()
