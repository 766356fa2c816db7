"""The average Σ_m w_m p_m of several distributions, with the weights that held-out codes prefer."""

from __future__ import annotations

import numpy as np

from priors.arrays import Float64
from priors.parts.numerics import log_sum_exp

WEIGHT_STEPS = 100


def average_log_prob(logs: Float64) -> Float64:
    """log Σ_m w_m p_m of held-out codes (N,) at their best weights, from log p_m (M, N)."""
    return log_sum_exp(logs + np.log(best_weights(logs))[:, None], axis=0)


def best_weights(logs: Float64) -> Float64:
    """The weights (M,) of most likelihood for log p_m of held-out codes (M, N), by expectation maximization.

    One code's worth of equal weights keeps them above 0.
    """
    weights = np.full(len(logs), 1 / len(logs))
    for _ in range(WEIGHT_STEPS):
        shares = logs + np.log(weights)[:, None]
        shares = np.exp(shares - shares.max(0))
        counts = (shares / shares.sum(0)).sum(1) + 1 / len(logs)
        weights = counts / counts.sum()
    return weights
