r"""What discrete families share: G independent variables of K = 2^b values, each of them b bits of the code, D = G b.

A code is a corner of each variable's simplex, (B, G, K) one-hot; in training the estimator of ``model.estimator``
relaxes it. Which b bits stand for which value is the family's: tables and priors see bits, whatever values mean.

With ``model.nested`` a variable may be absent: its code is 0, no corner and no mixture of corners. O. Rippel, M.
Gelbart, R. Adams, "Learning Ordered Representations with Nested Dropout", 2014, arXiv 1402.0915.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmzcli.config import ModelConfig
from dmzcli.model import estimators
from dmzcli.model.estimators.base import corners
from dmzcli.model.latents.base import ABSENT, Latent, Tokens
from dmzcli.model.latents.tokens import SingleToken, VariableTokens


class Discrete(Latent):
    """Variables of K values.

    Arguments:
        config: The model's settings.

    Attributes:
        variables: G.
        values: K.
        patterns: uint8 (K, b), the bits of each value, highest first.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.variable_bits
        self.variables, self.values = self.dim // width, 1 << width
        self.logits_shape = self.noise_shape = (self.variables, self.values)
        self.cardinalities = np.full(self.variables, self.values, np.int64)
        self.estimator = estimators.create(config.estimator)
        words = self.words()
        self.patterns = (words[:, None] >> np.arange(width)[::-1] & 1).astype(np.uint8)
        self._value_of = np.argsort(words).astype(np.int64)  # int32 on some systems, which counts nothing

    def words(self) -> np.ndarray:
        """The bits of each value as a number, int64 (K,): a permutation of 0 to K − 1."""
        return np.arange(self.values)

    def scores(self, logits: Tensor) -> Tensor:
        """ℓ (B, G, K), whose softmax is q(z | x)."""
        return logits

    def linear(self, logits: Tensor) -> Tensor:
        """The slope of deterministic codes, (B, G, K).

        Logits count by their differences: of two, half the log-odds m each way, so that the code's s = z_1 − z_0 moves
        as m does.
        """
        return logits - logits.mean(-1, keepdim=True)

    def tokens(self) -> Tokens:
        if self.config.tokens == "single":
            return SingleToken(self.variables, self.values, self.config.nested)
        return VariableTokens(self.variables, self.values, self.config.token_width, self.config.nested)

    def noise(self, uniform: Tensor) -> Tensor:
        """Gumbel(0, 1)."""
        # rand gives 0 with probability 2^-24 and never 1; the clamp keeps both logarithms finite.
        return -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))

    def relax(self, logits: Tensor, noise: Tensor, temperature: float | None = None) -> Tensor:
        """The estimator's codes (B, G, K) for Gumbel(0, 1) noise."""
        tau = self.config.temperature if temperature is None else temperature
        return self.estimator.relax(self, logits, noise, tau)

    def hard(self, logits: Tensor) -> Tensor:
        return corners(self.scores(logits))

    def codes(self, bits: Tensor) -> Tensor:
        """Codes of bits; of a nested latent a bit may be :data:`ABSENT`, and its variable is with it."""
        grouped = bits.long().unflatten(-1, (self.variables, -1))
        if self.config.nested:
            present = (grouped != ABSENT).all(-1)
            return self._corners(grouped * present[..., None]) * present[..., None]
        return self._corners(grouped)

    def kept(self, codes: Tensor, prefix: Tensor) -> Tensor:
        width = self.dim // self.variables
        last = torch.arange(width, self.dim + 1, width, device=codes.device)
        return codes * (last <= prefix[:, None])[..., None]

    def _corners(self, grouped: Tensor) -> Tensor:
        words = torch.zeros_like(grouped[..., 0])
        for column in grouped.unbind(-1):
            words = 2 * words + column
        return F.one_hot(torch.from_numpy(self._value_of).to(words.device)[words], self.values)

    def distribution(self, logits: Tensor) -> Tensor:
        """q(z | x) of every variable's values, float32 (B, G, K)."""
        return self.scores(logits).float().softmax(-1)

    def probabilities(self, logits: Tensor) -> Tensor:
        patterns = torch.from_numpy(self.patterns).to(logits.device)
        return (
            (self.distribution(logits) @ patterns.float()).flatten(1).clamp(max=1)
        )  # a sum may round above 1

    def bits(self, logits: Tensor) -> Tensor:
        """The bits of the most probable values; of equal ones, the first's."""
        return self._bits_of(self.scores(logits).argmax(-1))

    def draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Each variable takes the number of its first bit: the first value whose distribution function exceeds it."""
        first = uniform.unflatten(-1, (self.variables, -1))[..., :1]
        reached = (self.distribution(logits).cumsum(-1) <= first).sum(-1)
        return self._bits_of(reached.clamp(max=self.values - 1))  # the sum may round below 1

    def _bits_of(self, values: Tensor) -> Tensor:
        return torch.from_numpy(self.patterns).to(values.device)[values].flatten(1)
