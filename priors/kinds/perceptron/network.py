"""A perceptron with batch norm: hidden layers relu(bn(W u)), and a linear layer."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTUM = 0.1


class BatchNorm(nn.Module):
    """Batch norm whose whole state is floating-point, so that weights are averaged with their statistics.

    A batch of one row has no variance: it is normalized by the running statistics, as in evaluation.

    Arguments:
        width: Units.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        """(N, width) to (N, width)."""
        learning = self.training and len(h) > 1
        return F.batch_norm(h, self.mean, self.variance, self.weight, self.bias, learning, MOMENTUM)


class Network(nn.Module):
    """Log-odds of bits from signs.

    Arguments:
        width_in: Signs; with none the log-odds are the bias alone.
        width_out: Bits.
        hidden: Units of a layer.
        layers: Hidden layers.
        dropout: Share of units dropped in training.
    """

    def __init__(self, width_in: int, width_out: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width_out))
        self.body: nn.Sequential | None = None
        if width_in:
            widths = [width_in, *[hidden] * layers]
            parts: list[nn.Module] = []
            for before, after in itertools.pairwise(widths):
                parts += [
                    nn.Linear(before, after, bias=False),
                    BatchNorm(after),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                ]
            leave = nn.Linear(hidden, width_out, bias=False)
            nn.init.normal_(leave.weight, std=0.1 / math.sqrt(hidden))
            self.body = nn.Sequential(*parts, leave)

    def forward(self, given: Tensor) -> Tensor:
        """(N, width_in) to (N, width_out)."""
        return self.bias.expand(len(given), -1) if self.body is None else self.body(given) + self.bias
