r"""The contract of estimators: training codes of discrete variables, and the gradient that goes through them.

A variable takes one of K values, z ~ softmax(ℓ), and its code is a point of the simplex of K corners. No gradient goes
through a choice among corners, ∂z/∂ℓ = 0 almost everywhere; an estimator puts a slope of its own in its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Values(Protocol):
    """Variables of K values each, as an estimator sees a latent family."""

    def scores(self, logits: Tensor) -> Tensor:
        """ℓ, whose softmax is q(z | x): (B, G, K) of the encoder's logits."""

    def linear(self, logits: Tensor) -> Tensor:
        """What hard codes become where their rounding is left out, (B, G, K): the slope of deterministic codes."""


class Estimator(ABC):
    """How training codes are made."""

    @abstractmethod
    def relax(self, values: Values, logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """Codes (B, G, K), differentiable in the logits.

        Arguments:
            values: The latent family.
            logits: The encoder's, (B, …).
            noise: Gumbel(0, 1), (B, G, K).
            temperature: τ > 0.
        """


def corners(scores: Tensor) -> Tensor:
    """The corner of the largest score, (B, G, K); of equal ones the first."""
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)


def through(hard: Tensor, slope: Tensor) -> Tensor:
    """The hard codes to the last bit, with the gradient of ``slope``."""
    return hard + (slope - slope.detach())
