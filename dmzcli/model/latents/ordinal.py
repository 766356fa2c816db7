r"""Ordinal variables: levels k = 0, …, K − 1 around a location μ, with a precision ρ,

    q(z = k | x) ∝ exp(−ρ (k − μ)²),    μ = (K − 1) (1 + tanh a) / 2,    ρ = log(1 + e^c)

for two logits (a, c) a variable; the most probable level is the rounded location. The denoiser sees the level's number
v = 2 k / (K − 1) − 1 in [−1, 1] (in training, its expectation under the code), so that near levels look alike to it. A
level's bits are its Gray code, in which neighbors differ in one bit.

F. Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", 2023, arXiv 2309.15505 (FSQ): the estimator
    ``sign`` rounds as it does, with dv/dtanh(a) = 1.
F. Gray, "Pulse Code Communication", 1953, US patent 2,632,058.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmzcli.config import ModelConfig
from dmzcli.model.latents.base import Tokens
from dmzcli.model.latents.discrete import Discrete
from dmzcli.model.latents.tokens import absence


class Family(Discrete):
    """Two logits a variable, a location and a precision."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.logits_shape = (self.variables, 2)

    def words(self) -> np.ndarray:
        """Gray's code of every level."""
        levels = np.arange(self.values)
        return levels ^ (levels >> 1)

    def scores(self, logits: Tensor) -> Tensor:
        """−ρ (k − μ)², float32 (B, G, K): exact where it is largest, however many levels there are."""
        a, c = logits.float().unbind(-1)
        levels = torch.arange(self.values, device=logits.device)
        location = (self.values - 1) * (1 + a.tanh()) / 2
        return -F.softplus(c)[..., None] * (levels - location[..., None]).square()

    def linear(self, logits: Tensor) -> Tensor:
        """A vector along v of which the mean, Σ_k v_k z_k, is tanh(a): rounding passes the location's slope on."""
        v = numbers(self.values, logits.device)
        return logits[..., :1].float().tanh() * v / v.square().sum()

    def tokens(self) -> Tokens:
        if self.config.tokens == "single":
            return SingleToken(self.variables, self.config.nested)
        return VariableTokens(self.variables, self.config.token_width, self.config.nested)


def numbers(levels: int, device: torch.device) -> Tensor:
    """v of every level, evenly from −1 to 1, float32 (K,)."""
    return torch.linspace(-1, 1, levels, device=device)


def expected(codes: Tensor) -> Tensor:
    """The expectation of v under codes (B, G, K), (B, G)."""
    return (codes * numbers(codes.shape[-1], codes.device)).sum(-1).to(codes.dtype)


class SingleToken(Tokens):
    """The levels' numbers of all variables, as one token; of nested ones also whether each is absent."""

    single = True

    def __init__(self, variables: int, nested: bool = False) -> None:
        super().__init__()
        self.nested = nested
        self.width = variables * (1 + nested)

    def forward(self, codes: Tensor) -> Tensor:
        levels = expected(codes)
        return (torch.cat([levels, absence(codes)], 1) if self.nested else levels)[:, None]


class VariableTokens(Tokens):
    """One token per variable, on a learned line: its middle plus v times its direction; or one of its absence."""

    single = False

    def __init__(self, variables: int, width: int, nested: bool = False) -> None:
        super().__init__()
        self.width = width
        self.embedding = torch.nn.Parameter(torch.randn(variables, 2, width))
        self.absent = torch.nn.Parameter(torch.randn(variables, width)) if nested else None

    def forward(self, codes: Tensor) -> Tensor:
        middle, direction = self.embedding.unbind(1)
        tokens = middle + expected(codes)[..., None] * direction
        return tokens if self.absent is None else torch.lerp(tokens, self.absent, absence(codes)[..., None])
