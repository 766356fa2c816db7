r"""A causal network over a sequence of bits: the logit of bit t sees bits before t and the given bits.

Three paths add up to the logits z_t, x_s = 2 b_s − 1 ∈ {−1, 1}:

- **linear**: a weight for every earlier position. It may be a sparse chain (:mod:`.logistic_chain`) that was fitted
  before; then it stays as it is and the other paths start at zero, so that training goes on from the chain.
- **position-specific** (no shared weights, for bits without a neighborhood): masked residual layers
  h ← h + silu(M h), unit u of degree d(u) seeing positions s ≤ d(u). Germain et al., "MADE: masked
  autoencoder for distribution estimation", 2015, arXiv 1502.03509, equations 12–13.
- **convolutional** (shared weights, for neighbors in the order): gated causal convolutions
  y ← y + W (tanh(u) ⊙ σ(v)) of growing dilation, then causal attention over all earlier positions. Chen et
  al., "PixelSNAIL: an improved autoregressive generative model", 2017, arXiv 1712.09763, section 3.

All allow a cache: step t computes what position t adds and nothing else.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from priors.arrays import Float64

KERNEL = 3


class DensePath(nn.Module):
    """Masked residual layers over the whole sequence.

    Arguments:
        dim: Length T of the sequence.
        given_dim: G.
        hidden: Units H of a layer.
        layers: Layers, at least 1.
        dropout: Share of units dropped in training.
    """

    def __init__(self, dim: int, given_dim: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dim, self.given_dim, self.dropout = dim, given_dim, dropout
        unit = torch.arange(hidden)
        degree = unit * dim // hidden - 1 if given_dim else unit * max(dim - 1, 1) // hidden
        position = torch.cat([torch.full((given_dim,), -1), torch.arange(dim)])
        masks = {
            "see": degree[:, None] >= position,
            "pass": degree[:, None] >= degree,
            "tell": torch.arange(dim)[:, None] > degree,
        }
        for name, mask in masks.items():
            self.register_buffer(f"{name}_mask", mask.float(), persistent=False)
        self.first = torch.searchsorted(degree, torch.arange(-1, dim)).tolist()  # first unit of degree t − 1
        width = dim + given_dim
        self.see = nn.Parameter(torch.randn(hidden, width) * math.sqrt(2 / width))
        self.see_bias = nn.Parameter(torch.zeros(hidden))
        self.between = nn.ParameterList(
            [nn.Parameter(torch.randn(hidden, hidden) / math.sqrt(hidden)) for _ in range(layers - 1)]
        )
        self.between_bias = nn.ParameterList([nn.Parameter(torch.zeros(hidden)) for _ in range(layers - 1)])
        self.tell = nn.Parameter(torch.randn(dim, hidden) * 0.1 / math.sqrt(hidden))

    def weights(self) -> tuple[Tensor, list[Tensor], Tensor]:
        """The masked matrices: input to units, between layers, units to logits."""
        return (
            self.see * self.get_buffer("see_mask"),
            [m * self.get_buffer("pass_mask") for m in self.between],
            self.tell * self.get_buffer("tell_mask"),
        )

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """Logits (N, T) of signs (N, T) and given signs (N, G)."""
        see, between, tell = self.weights()
        inputs = torch.cat([given, x], dim=1)
        h = F.silu(F.linear(inputs, see, self.see_bias))
        for matrix, bias in zip(between, self.between_bias, strict=True):
            h = h + F.silu(F.linear(F.dropout(h, self.dropout, self.training), matrix, bias))
        return F.linear(F.dropout(h, self.dropout, self.training), tell)


class GatedConvolution(nn.Module):
    """y + W (tanh(u) ⊙ σ(v)), (u, v) a causal convolution of the normalized y, dilated by ``dilation``."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation, self.dropout = dilation, dropout
        self.norm = nn.LayerNorm(channels)
        self.taps = nn.ModuleList([nn.Linear(channels, 2 * channels, bias=i == 0) for i in range(KERNEL)])
        self.out = nn.Linear(channels, channels)

    def gate(self, y: Tensor, taps: list[Tensor]) -> Tensor:
        """The block's output from its input and the normalized input now, d and 2 d positions ago."""
        u, v = sum(tap(past) for tap, past in zip(self.taps, taps, strict=True)).chunk(2, dim=-1)
        return y + F.dropout(self.out(torch.tanh(u) * torch.sigmoid(v)), self.dropout, self.training)

    def forward(self, y: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C)."""
        now = self.norm(y)
        padded = F.pad(now, (0, 0, (KERNEL - 1) * self.dilation, 0))
        lags = [(KERNEL - 1 - i) * self.dilation for i in range(KERNEL)]
        return self.gate(y, [padded[:, lag : lag + y.shape[1]] for lag in lags])


class Attention(nn.Module):
    """y + W softmax(q kᵀ / √d) v over the positions up to and with the present one."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def split(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (N, heads, T, d)."""
        n, t, _ = y.shape
        q, k, v = self.qkv(self.norm(y)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def join(self, y: Tensor, mixed: Tensor) -> Tensor:
        """The block's output from its input (N, T, C) and the mixed values (N, heads, T, d)."""
        flat = mixed.transpose(1, 2).reshape(y.shape)
        return y + F.dropout(self.out(flat), self.dropout, self.training)

    def forward(self, y: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C)."""
        q, k, v = self.split(y)
        return self.join(y, F.scaled_dot_product_attention(q, k, v, is_causal=True))


class ConvolutionalPath(nn.Module):
    """Gated causal convolutions of dilations 1, 2, 4, …, then causal attention.

    Arguments:
        dim: Length T of the sequence.
        given_dim: G.
        channels: C.
        layers: Convolutions.
        heads: Heads of the attention; divides C.
        dropout: Share of channels dropped in training.
    """

    def __init__(
        self, dim: int, given_dim: int, channels: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.position = nn.Parameter(0.3 * torch.randn(dim, channels))
        self.value = nn.Parameter(0.3 * torch.randn(dim, channels))  # of the bit before
        self.given = nn.Linear(given_dim, channels, bias=False) if given_dim else None
        self.convolutions = nn.ModuleList([GatedConvolution(channels, 2**i, dropout) for i in range(layers)])
        self.attention = Attention(channels, heads, dropout)
        self.norm = nn.LayerNorm(channels)
        self.readout = nn.Parameter(torch.zeros(dim, channels))

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """Logits (N, T) of signs (N, T) and given signs (N, G)."""
        before = F.pad(x, (1, -1))
        y = self.position + before[..., None] * self.value
        if self.given is not None:
            y = y + self.given(given)[:, None]
        for convolution in self.convolutions:
            y = convolution(y)
        return (self.norm(self.attention(y)) * self.readout).sum(-1)


class CausalNetwork(nn.Module):
    """The sum of the three paths that this module describes.

    Arguments:
        dim: Length T of the sequence.
        given_dim: G.
        hidden, layers: Size of the position-specific path, which is absent where ``hidden`` is 0.
        channels, convolutions, heads: Size of the convolutional path, which is absent where ``channels`` is 0.
        dropout: Share of units dropped in training.
    """

    def __init__(
        self,
        dim: int,
        given_dim: int,
        hidden: int,
        layers: int,
        channels: int,
        convolutions: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dim, self.given_dim = dim, given_dim
        self.bias = nn.Parameter(torch.zeros(dim))
        self.linear = nn.Parameter(torch.zeros(dim, given_dim + dim))
        self.register_buffer("mask", torch.ones(dim, given_dim + dim).tril(given_dim - 1), persistent=False)
        self.dense = DensePath(dim, given_dim, hidden, layers, dropout) if hidden else None
        self.snail = (
            ConvolutionalPath(dim, given_dim, channels, convolutions, heads, dropout) if channels else None
        )

    def start_at(self, bias: Tensor, linear: Tensor | None = None) -> None:
        """Starts at log-odds (T,), or at a chain: with weights (T, G + T) too, which then stay as they are."""
        with torch.no_grad():
            self.bias.copy_(bias)
            if linear is not None:
                self.linear.copy_(linear).requires_grad_(False)
                if self.dense is not None:
                    self.dense.tell.zero_()

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """Logits of the bits of a sequence.

        Arguments:
            x: float (N, T) of −1 and 1.
            given: float (N, G) of −1 and 1; G may be 0.

        Returns:
            float (N, T); logit t depends on ``x[:, :t]`` and ``given``.
        """
        z = F.linear(torch.cat([given, x], dim=1), self.linear * self.get_buffer("mask"), self.bias)
        for path in (self.dense, self.snail):
            if path is not None:
                z = z + path(x, given)
        return z

    def work(self) -> float:
        """Multiplications of the logits of one sequence; those of the convolutional path count double, since
        they come in small products."""
        width, total = self.dim + self.given_dim, float(self.linear.numel())
        if self.dense is not None:
            hidden = len(self.dense.see)
            total += hidden * (width + self.dim) + hidden**2 * len(self.dense.between)
        if self.snail is not None:
            channels = self.snail.position.shape[1]
            blocks = (2 * KERNEL + 1) * len(self.snail.convolutions) + 4
            total += 2 * self.dim * (blocks * channels**2 + self.dim * channels)
        return total


def log_likelihood(network: CausalNetwork, x: Tensor, given: Tensor) -> Tensor:
    """log p of sequences of signs (N, T), float64 where no gradient is asked for: tensor (N,)."""
    terms = F.logsigmoid(network(x, given) * x)
    return terms.sum(1) if torch.is_grad_enabled() else terms.double().sum(1)


def mean_loss(network: CausalNetwork, x: Tensor, given: Tensor) -> Tensor:
    """Mean −log p of a batch, with its gradient."""
    return -log_likelihood(network, x, given).mean()


@torch.no_grad()
def row_losses(network: CausalNetwork, x: Tensor, given: Tensor) -> Float64:
    """−log p of any number of sequences, (N,)."""
    blocks = zip(x.split(512), given.split(512), strict=True)
    return np.concatenate([-log_likelihood(network, *block).numpy() for block in blocks])
