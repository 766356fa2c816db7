r"""Independent bits: q(z | x) = Π_i Bernoulli(z_i; π_i), with two logits a bit, whose softmax is (1 − π_i, π_i).

In training a bit is a Gumbel-softmax pair, soft or hard with a straight-through gradient; in evaluation it is one-hot.

References:
    M. Proszewska, N. Malkin, N. Siddharth, 2025, arXiv 2506.00136 (DMZ).
    E. Jang, S. Gu, B. Poole, "Categorical Reparameterization with Gumbel-Softmax", 2017, arXiv 1611.01144.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmzcli.config import ModelConfig
from dmzcli.model.latents.base import Latent, Tokens


class Family(Latent):
    """Bits as pairs (B, D, 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.logits_shape = self.noise_shape = (self.dim, 2)
        self.cardinalities = np.full(self.dim, 2, np.int64)

    def tokens(self) -> Tokens:
        if self.config.tokens == "single":
            return SingleToken(self.dim)
        return BitTokens(self.dim, self.config.token_width)

    def noise(self, uniform: Tensor) -> Tensor:
        # rand gives 0 with probability 2^-24 and never 1; the clamp keeps both logarithms finite.
        return -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))

    def relax(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Gumbel-softmax pairs (B, D, 2) for Gumbel(0, 1) noise."""
        soft = ((logits + noise) / self.config.temperature).softmax(-1)
        if self.config.estimator == "soft":
            return soft
        hard = F.one_hot(soft.argmax(-1), 2).to(soft.dtype)
        return hard + soft - soft.detach()

    def hard(self, logits: Tensor) -> Tensor:
        return F.one_hot(logits.argmax(-1), 2).to(logits.dtype)

    def codes(self, bits: Tensor) -> Tensor:
        return F.one_hot(bits.long(), 2)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(-1)[..., 1]

    def bits(self, logits: Tensor) -> Tensor:
        """The most probable bits; ties, probabilities of exactly one half, go to 0."""
        return (self.probabilities(logits) > 0.5).to(torch.uint8)

    def draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        return (uniform < self.probabilities(logits)).to(torch.uint8)


class SingleToken(Tokens):
    """All pairs side by side, as one token (the paper's)."""

    single = True

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.width = 2 * bits

    def forward(self, pairs: Tensor) -> Tensor:
        return pairs.flatten(1)[:, None]


class BitTokens(Tokens):
    """One token per bit: the expectation of a learned pair of embeddings under (1 − π_i, π_i)."""

    single = False

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = torch.nn.Parameter(torch.randn(bits, 2, width))

    def forward(self, pairs: Tensor) -> Tensor:
        return torch.einsum("bdk,dkw->bdw", pairs, self.embedding)
