r"""Bernoulli straight-through: z is an exact draw from q(z | x), and its slope is that of its probabilities,
softmax(ℓ / τ), without noise; of K values the same holds of their K probabilities.

The draw is the corner of the largest ℓ + g (Gumbel's). Only the slope knows the temperature.

Y. Bengio, N. Léonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013,
arXiv 1308.3432.
"""

from __future__ import annotations

from torch import Tensor

from dmzcli.model.estimators.base import Estimator, Values, corners, through


class Rule(Estimator):
    """Drawn codes with the gradient of their probabilities."""

    def relax(self, values: Values, logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
        scores = values.scores(logits)
        return through(corners(scores + noise), (scores / temperature).softmax(-1))
