"""The mixture of Bernoulli products: latent classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors.arrays import Bits, Float32, Float64, Floats
from priors.fit import Rows, marginals
from priors.kinds.mixtures.em import EXPONENTIAL, MULTIPLY, MixturePrior
from priors.parts.numerics import log_odds, log_sigmoid, sigmoid
from priors.registry import register
from priors.storage import State


@register
class Mixture(MixturePrior):
    r"""A mixture of independent bits.

    .. math::
        p(b \mid g) = \sum_k w_k(g) \prod_i p_{ki}^{b_i} (1 - p_{ki})^{1 - b_i}, \qquad
        p_{ki} = \frac{n_{ki} + a p_i}{n_k + a}

    with the expected counts n of the expectation step, marginals p_i and ``smoothing`` a: latent class
    analysis, in the form of McLachlan and Peel ("Finite Mixture Models", 2000, section 5.8,
    doi:10.1002/0471721182). What is given acts on the weights alone, as in :mod:`priors.kinds.mixtures.em`.
    """

    kind = "mixture"
    summary = "a mixture of Bernoulli products (latent classes)"
    automatic = True
    grid = (8, 16, 32, 64, 128, 256, 512)
    smoothings = (0.3, 1.0, 3.0, 10.0, 30.0)

    def _variables(self, rows: Rows) -> Float32:
        return rows.bits.astype(np.float32)

    def _common(self, variables: Float32) -> Float64:
        return marginals(variables)

    def _step_seconds(self, rows: int, size: int) -> float:
        return rows * size * (2 * self.dim * MULTIPLY + EXPONENTIAL)

    def _maximize(self, variables: Float32, shares: Float32, smoothing: float, common: Float64) -> State:
        counts = (shares @ variables).astype(np.float64)
        total = shares.sum(1, dtype=np.float64)[:, None]
        p = np.clip((counts + smoothing * common) / (total + smoothing), 1e-9, 1 - 1e-9)
        return {"logits": log_odds(p)}

    def _evaluate(self, components: State, variables: NDArray[Any], dtype: Any) -> Floats:
        logits = components["logits"]
        constant = log_sigmoid(-logits).sum(1).astype(dtype)
        return logits.astype(dtype) @ variables.T.astype(dtype) + constant[:, None]

    def _draw(self, which: NDArray[np.intp], u: Float32, given: Bits | None, temperature: float) -> Bits:
        p = sigmoid(self._components["logits"] / temperature).astype(np.float32)
        return (u < p[which]).astype(np.uint8)
