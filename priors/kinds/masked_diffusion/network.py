r"""The network of the masked diffusion: every hidden bit's log-odds from the bits that are shown.

A residual perceptron on (x ⊙ k, k, g): signs x where the mask k shows them, the mask, the given signs.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from priors.arrays import Floats


class Residual(nn.Module):
    """h + W₂ silu(W₁ norm(h))."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(hidden)
        self.into = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor) -> Tensor:
        """(N, H) to (N, H)."""
        inner = F.dropout(F.silu(self.into(self.norm(h))), self.dropout, self.training)
        return h + self.out(inner)


class MaskedNetwork(nn.Module):
    """Log-odds of all bits from those that are shown.

    Arguments:
        dim: Bits of a code, D.
        given_dim: Given bits, G.
        hidden: Units H of a layer.
        layers: Number of residual blocks.
        dropout: Share of units dropped in training.
    """

    def __init__(self, dim: int, given_dim: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * dim + given_dim, hidden)
        self.blocks = nn.ModuleList([Residual(hidden, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(hidden)
        self.leave = nn.Linear(hidden, dim, bias=False)
        nn.init.normal_(self.leave.weight, std=0.1 / math.sqrt(hidden))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, shown: Tensor, given: Tensor) -> Tensor:
        """Log-odds (N, D) from signs (N, D), the mask of shown bits (N, D) and given signs (N, G)."""
        h = self.enter(torch.cat([x * shown, shown, given], dim=1))
        for block in self.blocks:
            h = block(h)
        return self.leave(F.silu(self.norm(h))) + self.bias


def loss(network: MaskedNetwork, x: Tensor, given: Tensor, count: Tensor, rank: Tensor) -> Tensor:
    """The bound's estimate D / (D − n) Σ_hidden −log p(b_i | shown) of each row, (N,).

    Arguments:
        network: The network.
        x: Signs (N, D).
        given: Signs (N, G).
        count: n, how many bits are shown, (N,) from 0 to D − 1.
        rank: (N, D), a permutation in each row; the n lowest ranks are shown.
    """
    shown = (rank < count[:, None]).float()
    terms = F.softplus(-network(x, shown, given) * x) * (1 - shown)
    return terms.sum(1) * x.shape[1] / (x.shape[1] - count)


def random_loss(network: MaskedNetwork, x: Tensor, given: Tensor) -> Tensor:
    """The mean loss at counts spread evenly over the batch and at random ranks, from torch's generator."""
    rows, dim = x.shape
    level = (torch.randperm(rows) + torch.rand(rows)) / rows
    count = (level * dim).long().clamp(max=dim - 1)
    return loss(network, x, given, count, torch.rand(rows, dim).argsort(1)).mean()


def boundaries(dim: int, steps: int, power: float) -> list[int]:
    """How many bits are known after each of S steps, 0 = n_0 < … < n_S = D, close to D (s / S)^power."""
    steps = min(steps, dim)
    ends = [0]
    for s in range(1, steps + 1):
        close = round(dim * (s / steps) ** power)
        ends.append(min(max(close, ends[-1] + 1), dim - (steps - s)))
    return ends


@torch.no_grad()
def log_likelihood(network: MaskedNetwork, x: Tensor, given: Tensor, rank: Tensor, ends: list[int]) -> Tensor:
    """log p(b | order) of the codes when bits are drawn by ``rank`` (D,) in the steps ``ends``: (N,)."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for low, high in itertools.pairwise(ends):
        z = network(x, (rank < low).float().expand_as(x), given)
        now = (rank >= low) & (rank < high)
        total += F.logsigmoid(z * x)[:, now].double().sum(1)
    return total


@torch.no_grad()
def draw(
    network: MaskedNetwork, u: Tensor, given: Tensor, rank: Tensor, ends: list[int], temperature: float
) -> Tensor:
    """Draws codes by ``rank`` (R, D): in each step the bits of the next ranks, independently given those before."""
    x = torch.zeros_like(u)
    for low, high in itertools.pairwise(ends):
        z = network(x, (rank < low).float(), given)
        now = (rank >= low) & (rank < high)
        x = torch.where(now, 2.0 * (u < torch.sigmoid(z / temperature)) - 1, x)
    return (x > 0).to(torch.uint8)


def ranks(uniforms: Floats) -> Tensor:
    """The rank of each number in its row: a permutation per row, (R, D)."""
    return torch.from_numpy(uniforms.argsort(1, kind="stable").argsort(1, kind="stable"))
