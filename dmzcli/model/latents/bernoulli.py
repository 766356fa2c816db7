r"""Independent bits: q(z | x) = Π_i Bernoulli(z_i; π_i), with two logits a bit, whose softmax is (1 − π_i, π_i).

In training a bit is a pair of weights that ``model.estimator`` makes, in evaluation it is one-hot.

References:
    M. Proszewska, N. Malkin, N. Siddharth, 2025, arXiv 2506.00136 (DMZ).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmzcli.model.latents.discrete import Discrete


class Family(Discrete):
    """Bits as pairs (B, D, 2)."""

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.distribution(logits)[..., 1]

    def bits(self, logits: Tensor) -> Tensor:
        """The most probable bits; ties, probabilities of exactly one half, go to 0."""
        return (self.probabilities(logits) > 0.5).to(torch.uint8)

    def draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        return (uniform < self.probabilities(logits)).to(torch.uint8)
