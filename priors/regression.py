"""Logistic regressions of many bits on the same given bits, fitted together.

Each bit i has its own log-odds l_i(g) = c_i + w_iᵀ(1, g): a fixed offset c_i and a penalised deviation w_i
(including its intercept). All share the curvature bound XᵀX / 4 of the logistic loss (Böhning and Lindsay,
"Monotonicity of quadratic-approximation algorithms", 1988, doi:10.1007/BF00049423), so one factorisation
serves every bit, and every step is two matrix products. Nesterov's momentum with restarts speeds it up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from priors.fitting import Bits

CHUNK = 16384  # rows of a product
STEPS = 200


def log_sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """log σ(x), without overflow."""
    return -np.logaddexp(0, -x)


def sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """σ(x) = 1 / (1 + e^−x), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def design(given: Bits) -> NDArray[np.float32]:
    """The regressors (1, g), float32 (N, G + 1)."""
    return np.hstack([np.ones((len(given), 1), np.float32), given.astype(np.float32)])


def fit_logistic(
    given: Bits,
    bits: Bits,
    offset: NDArray[np.float64],
    penalty: float,
    start: NDArray[np.float64] | None = None,
    tick: Callable[[float], None] | None = None,
) -> NDArray[np.float64]:
    r"""Minimises :math:`\sum_n -\log p(b_n \mid g_n) + \tfrac{\lambda}{2} \lVert w \rVert^2`.

    Arguments:
        given: uint8 (N, G).
        bits: uint8 (N, D).
        offset: c, float64 (D,).
        penalty: λ > 0; toward infinity the fit becomes the offset alone.
        start: Weights to start from, (G + 1, D).
        tick: Called with the fraction of the steps done.

    Returns:
        Weights w, float64 (G + 1, D).
    """
    x = design(given)
    hessian = 0.25 * (x.T @ x).astype(np.float64) + penalty * np.eye(x.shape[1])
    inverse = np.linalg.inv(hessian)
    w = np.zeros((x.shape[1], bits.shape[1])) if start is None else start.copy()
    ahead, momentum = w.copy(), 1.0
    for step in range(STEPS):
        gradient = -penalty * ahead
        for at in range(0, len(x), CHUNK):
            block = x[at : at + CHUNK]
            logits = block @ ahead.astype(np.float32) + offset.astype(np.float32)
            gradient += block.T @ (bits[at : at + CHUNK] - sigmoid(logits))
        move = inverse @ gradient
        new = ahead + move
        if np.sum(gradient * (new - w)) < 0:  # the momentum points uphill: begin it anew
            momentum = 1.0
        following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        ahead = new + (momentum - 1) / following * (new - w)
        momentum, w = following, new
        if tick is not None:
            tick((step + 1) / STEPS)
        if np.abs(move).max() < 1e-3:
            break
    return w
