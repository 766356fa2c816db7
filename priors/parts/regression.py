"""Linear models of many targets on the same given bits, fitted together.

Logits l(g) = c + Wᵀ(1, g) with a fixed offset c and a penalized deviation W (its intercept too). The
curvature of the logistic loss is at most κ XᵀX, κ = 1/4 for single bits and 1/2 for softmax groups
(Böhning, "Multinomial logistic regression algorithm", 1992, doi:10.1007/BF00048682), so one factorization
serves all targets and a step is two matrix products. Nesterov's momentum with restarts speeds it up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors.arrays import Bits, Float32, Float64, Floats
from priors.fit import Fit

CHUNK = 16384  # rows of a product
PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)  # from strong to weak, for choices on valid


def design(given: Bits) -> Float32:
    """The regressors (1, g), float32 (N, G + 1)."""
    return np.hstack([np.ones((len(given), 1), np.float32), given.astype(np.float32)])


def best_penalty(
    asked: float | None,
    regress: Callable[[float, Float64 | None, Callable[[float], None]], Float64],
    score: Callable[[Float64], float],
    fit: Fit,
) -> tuple[float, Float64]:
    """The penalty and weights that held-out rows prefer: from strong to weak while they gain.

    Arguments:
        asked: The one penalty to use, or ``None``.
        regress: Penalty, the weights at the stronger penalty before it, and progress, to weights.
        score: Weights to the mean log-likelihood of held-out rows.
        fit: Progress.
    """
    penalties = PENALTIES if asked is None else (asked,)
    best, weights, most = penalties[0], None, -np.inf
    for i, penalty in enumerate(penalties):
        part = fit.part(i / len(penalties), (i + 1) / len(penalties))
        weaker = regress(penalty, weights, functools.partial(part.progress, message=f"penalty {penalty:g}"))
        gained = score(weaker)
        if weights is not None and gained <= most:
            break
        best, weights, most = penalty, weaker, gained
    assert weights is not None
    return best, weights


def fit(
    given: Bits,
    target: Callable[[slice], NDArray[Any]],
    mean: Callable[[Floats], Floats],
    curvature: float,
    offset: Float64,
    penalty: float,
    start: Float64 | None = None,
    steps: int = 200,
    tick: Callable[[float], None] | None = None,
) -> Float64:
    r"""Minimizes :math:`\sum_n -\log p(y_n \mid g_n) + \tfrac{\lambda}{2} \lVert W \rVert^2`.

    Arguments:
        given: uint8 (N, G).
        target: The targets (n, O) of a slice of rows: bits, or shares of a softmax group.
        mean: Logits (n, O) to expected targets.
        curvature: κ, 1/4 for single bits, 1/2 for softmax groups.
        offset: c, float64 (O,).
        penalty: λ > 0; toward infinity the fit becomes the offset alone.
        start: W to start from.
        steps: The most steps.
        tick: Called with the fraction of the steps done.

    Returns:
        W, float64 (G + 1, O).
    """
    x = design(given)
    inverse = np.linalg.inv(curvature * (x.T @ x).astype(np.float64) + penalty * np.eye(x.shape[1]))
    weights = np.zeros((x.shape[1], len(offset))) if start is None else start.copy()
    ahead, momentum = weights.copy(), 1.0
    for step in range(steps):
        gradient = -penalty * ahead
        narrow, base = ahead.astype(np.float32), offset.astype(np.float32)
        for at in range(0, len(x), CHUNK):
            rows = slice(at, min(at + CHUNK, len(x)))
            gradient += x[rows].T @ (target(rows) - mean(x[rows] @ narrow + base))
        move = inverse @ gradient
        new = ahead + move
        if np.sum(gradient * (new - weights)) < 0:  # the momentum points uphill: begin it anew
            momentum = 1.0
        following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        ahead = new + (momentum - 1) / following * (new - weights)
        momentum, weights = following, new
        if tick is not None:
            tick((step + 1) / steps)
        if np.abs(move).max() < 1e-3:
            break
    return weights
