r"""The contract of latent families: how the encoder's logits become codes, and codes become bits.

An encoder maps an image to logits; they are the parameters of q(z | x). In training z is *relaxed*: a differentiable
code made of the logits and of noise. In evaluation it is *hard*. Every code has an exact representation by D bits,
which is what tables and priors see, and reaches the denoiser as tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor, nn

from dmzcli.config import ModelConfig

ABSENT = 2
"""In the place of a bit of a nested latent: it is not given."""


class Tokens(nn.Module, ABC):
    """Codes (B, …) to the tokens (B, T, width) that the denoiser attends to.

    Attributes:
        width: Width of a token.
        single: Whether there is exactly one token, whose attention weight is 1 whatever asks.
    """

    width: int
    single: bool


class Latent(ABC):
    """A latent family.

    Arguments:
        config: The model's settings.

    Attributes:
        dim: D, the number of bits; 0 where there is no latent.
        logits_shape: Shape of one image's logits.
        noise_shape: Shape of the noise of one image's relaxation.
        cardinalities: Number of values of each variable of a code, int64; their product is 2^D.
    """

    logits_shape: tuple[int, ...]
    noise_shape: tuple[int, ...]
    cardinalities: np.ndarray

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.dim = config.dim

    @abstractmethod
    def tokens(self) -> Tokens | None:
        """A new module that makes tokens of codes; ``None`` where there is no latent."""

    @abstractmethod
    def noise(self, uniform: Tensor) -> Tensor:
        """Noise of the relaxation, from uniform numbers in [0, 1) of shape (B, *noise_shape)."""

    @abstractmethod
    def relax(self, logits: Tensor, noise: Tensor, temperature: float | None = None) -> Tensor:
        """Training codes of logits (B, *logits_shape) under noise (B, *noise_shape).

        Arguments:
            logits, noise: As above.
            temperature: That of the step; by default ``model.temperature``.
        """

    @abstractmethod
    def hard(self, logits: Tensor) -> Tensor:
        """The most probable codes, in the form of :meth:`relax`."""

    @abstractmethod
    def codes(self, bits: Tensor) -> Tensor:
        """The codes that bits (B, D) of 0 and 1 stand for, in the form of :meth:`relax`."""

    @abstractmethod
    def kept(self, codes: Tensor, prefix: Tensor) -> Tensor:
        """Codes (B, …) of which only the first bits are there.

        Arguments:
            codes: In the form of :meth:`relax`.
            prefix: Number of bits that are kept of each, int64 (B,); a variable is there if all its bits are.
        """

    @abstractmethod
    def distribution(self, logits: Tensor) -> Tensor:
        """q(z | x) of every variable's values, float32 (B, G, K)."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """q(z_i = 1 | x) of every bit, float32 (B, D)."""

    @abstractmethod
    def bits(self, logits: Tensor) -> Tensor:
        """The bits of the most probable codes, uint8 (B, D)."""

    @abstractmethod
    def draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Bits drawn from q(z | x), uint8 (B, D), from uniform numbers in [0, 1) of shape (B, D)."""
