"""Sampling from a causal network bit by bit: with a cache, each step computes one position only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from priors.kinds.autoregressive.network import (
    KERNEL,
    Attention,
    CausalNetwork,
    ConvolutionalPath,
    DensePath,
    GatedConvolution,
)


class DenseSteps:
    """The position-specific path, one position at a time: units of degree t − 1 are computed at step t.

    Arguments:
        path: The path.
        inputs: Given signs, then the signs so far (R, G + T); the caller fills it.
    """

    def __init__(self, path: DensePath, inputs: Tensor) -> None:
        self._path, (self._see, self._between, self._tell) = path, path.weights()
        self._inputs = inputs
        self._layers = [inputs.new_zeros(len(inputs), len(path.see)) for _ in range(1 + len(self._between))]

    def step(self, t: int) -> Tensor:
        """Logit t (R,) once the signs before t are there."""
        path, end = self._path, self._path.given_dim + t
        inputs, low, high = self._inputs[:, :end], path.first[t], path.first[t + 1]
        if high > low:
            h = F.silu(F.linear(inputs, self._see[low:high, :end], path.see_bias[low:high]))
            self._layers[0][:, low:high] = h
            for i, matrix in enumerate(self._between):
                below = self._layers[i][:, :high]
                h = h + F.silu(F.linear(below, matrix[low:high, :high], path.between_bias[i][low:high]))
                self._layers[i + 1][:, low:high] = h
        return self._layers[-1][:, :high] @ self._tell[t, :high]


class Ring:
    """The last (kernel − 1) · dilation + 1 inputs of a convolution."""

    def __init__(self, convolution: GatedConvolution, like: Tensor) -> None:
        self._convolution = convolution
        self._size = (KERNEL - 1) * convolution.dilation + 1
        self._past = like.new_zeros(self._size, *like.shape)

    def step(self, t: int, y: Tensor) -> Tensor:
        """The convolution's output (R, C) at position t for its input (R, C)."""
        d = self._convolution.dilation
        self._past[t % self._size] = self._convolution.norm(y)
        return self._convolution.gate(y, [self._past[(t - i * d) % self._size] for i in range(KERNEL)])


class KVCache:
    """The keys and values of all positions so far."""

    def __init__(self, attention: Attention, like: Tensor, dim: int) -> None:
        rows, channels = like.shape
        self._attention = attention
        self._keys = like.new_zeros(rows, attention.heads, dim, channels // attention.heads)
        self._values = torch.zeros_like(self._keys)

    def step(self, t: int, y: Tensor) -> Tensor:
        """The attention's output (R, C) at position t for its input (R, C)."""
        y = y[:, None]
        q, k, v = self._attention.split(y)
        self._keys[:, :, t : t + 1], self._values[:, :, t : t + 1] = k, v
        mixed = F.scaled_dot_product_attention(q, self._keys[:, :, : t + 1], self._values[:, :, : t + 1])
        return self._attention.join(y, mixed)[:, 0]


class ConvolutionalSteps:
    """The convolutional path, one position at a time; arguments as for :class:`DenseSteps`."""

    def __init__(self, path: ConvolutionalPath, inputs: Tensor) -> None:
        dim, channels = path.position.shape
        self._path, self._signs = path, inputs[:, inputs.shape[1] - dim :]
        given, like = inputs[:, : inputs.shape[1] - dim], inputs.new_zeros(len(inputs), channels)
        self._given = path.given(given) if path.given is not None else like
        self._blocks: list[Ring | KVCache] = [Ring(c, like) for c in path.convolutions]  # type: ignore
        self._blocks.append(KVCache(path.attention, like, dim))

    def step(self, t: int) -> Tensor:
        """Logit t (R,) once the signs before t are there."""
        path = self._path
        y = path.position[t] + self._given
        if t:
            y = y + self._signs[:, t - 1, None] * path.value[t]
        for block in self._blocks:
            y = block.step(t, y)
        return path.norm(y) @ path.readout[t]


@torch.no_grad()
def draw(network: CausalNetwork, u: Tensor, given: Tensor, temperature: float, cached: bool = True) -> Tensor:
    """Draws sequences: bit t is 1 where u_t < σ(z_t / temperature).

    Arguments:
        network: A network in evaluation mode.
        u: float (R, T) uniform numbers.
        given: float (R, G) of −1 and 1; G may be 0.
        temperature: Divides the logits; above 0.
        cached: Whether to keep what earlier bits need; without it every bit computes the whole prefix anew.

    Returns:
        uint8 (R, T).
    """
    rows, dim = u.shape
    inputs = torch.cat([given, u.new_zeros(rows, dim)], dim=1)
    width, x = given.shape[1], inputs[:, given.shape[1] :]
    paths: list[DenseSteps | ConvolutionalSteps] = []
    if cached and network.dense is not None:
        paths.append(DenseSteps(network.dense, inputs))
    if cached and network.snail is not None:
        paths.append(ConvolutionalSteps(network.snail, inputs))
    for t in range(dim):
        if cached:
            z = network.bias[t] + inputs[:, : width + t] @ network.linear[t, : width + t]
            for path in paths:
                z = z + path.step(t)
        else:
            z = network(x, given)[:, t]
        x[:, t] = 2.0 * (u[:, t] < torch.sigmoid(z / temperature)) - 1
    return (x > 0).to(torch.uint8)
