r"""Sparse chains: each bit by a logistic regression on the bits before it, p(b_t = 1 | b_<t, g) = σ(z_t).

.. math:: z_t = c_t + \sum_{s<t} w_{ts} x_s + \sum_j v_{tj} y_j, \qquad x_s = 2 b_s - 1,\; y_j = 2 g_j - 1

the fully visible belief network (Neal, "Connectionist learning of belief networks", Artificial Intelligence
56, 1992, doi:10.1016/0004-3702(92)90065-6; Frey, Hinton and Dayan, 1996). An L1 penalty on w and v keeps the
few regressors that a bit needs, so the fit is good on few codes already: it is what the network of the
autoregressive prior starts from.

The penalized loss is convex; accelerated proximal steps minimize it (Beck and Teboulle, "A fast iterative
shrinkage-thresholding algorithm", SIAM Journal on Imaging Sciences 2, 2009, doi:10.1137/080716542), with a
step of its own for each regressor: 1 / (κ v_j), v_j its variance, κ = λ_max(correlation) / 4.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from priors.arrays import Float32, Float64, Floats
from priors.fit import Rows
from priors.parts.numerics import log_odds, sigmoid
from priors.parts.regression import CHUNK

STRENGTHS = (0.5, 0.25, 0.12, 0.06, 0.03, 0.015)  # penalties in units of 1 / √N, from strong to weak
ROWS = 20_000  # rows of a fit
STEPS = 60  # of one penalty at most, from the solution of the one before
POWER_STEPS = 20
SIGMOID = 150  # a sigmoid takes as long as so many multiplications


@dataclasses.dataclass(frozen=True)
class Chain:
    """A chain over T bits.

    Attributes:
        bias: float64 (T,), c.
        weights: float32 (T, G + T): v, then w; 0 where a bit must not see.
        strength: The penalty times √N.
    """

    bias: Float64
    weights: Float32
    strength: float

    def loss(self, rows: Rows) -> float:
        """Mean −log p of rows whose bits are in the order of the chain, in nats."""
        x, total = signed_rows(rows), 0.0
        for at in range(0, len(x), CHUNK):
            z = x[at : at + CHUNK] @ self.weights.T + self.bias.astype(np.float32)
            total += float(np.logaddexp(0, -z * x[at : at + CHUNK, -len(self.bias) :]).sum(dtype=np.float64))
        return total / len(x)


def signed_rows(rows: Rows) -> Float32:
    """(y, x), float32 (N, G + T) of −1 and 1."""
    parts = [part for part in (rows.given, rows.bits) if part is not None]
    return np.hstack(parts).astype(np.float32) * 2 - 1


def _steps(rows: Rows, most: float) -> tuple[int, float]:
    """Steps for each penalty, and the work of one."""
    n, dim, given = min(len(rows), ROWS), rows.bits.shape[1], 0 if rows.given is None else rows.given.shape[1]
    cost = 2.0 * n * dim * (given + dim + SIGMOID)
    return int(np.clip(most / (cost * len(STRENGTHS)), 10, STEPS)), cost


def work(rows: Rows, most: float) -> float:
    """Multiplications that a fit to rows takes at most, where it should take ``most``."""
    steps, cost = _steps(rows, most)
    return steps * cost * len(STRENGTHS)


def fit(train: Rows, valid: Rows, most: float = np.inf) -> Chain:
    """The chain whose penalty is best on valid.

    Arguments:
        train, valid: Rows whose bits are in the order of the chain; of train, the first ``ROWS`` count.
        most: Multiplications that the fit should take: fewer steps where they do not suffice.

    Returns:
        The chain.
    """
    x = signed_rows(train.take(slice(0, ROWS)))
    solver, best, least = _Solver(x, train.bits.shape[1]), None, np.inf
    for strength in STRENGTHS:
        solver.minimize(strength / np.sqrt(len(x)), _steps(train, most)[0])
        chain = Chain(*solver.chain(), strength)
        loss = chain.loss(valid)
        if best is not None and loss >= least:
            break
        best, least = chain, loss
    assert best is not None
    return best


class _Solver:
    """Proximal steps on centered regressors; keeps its solution as a start for the next penalty."""

    def __init__(self, x: Float32, dim: int) -> None:
        self._x, self._dim, width = x, dim, x.shape[1]
        position = np.concatenate([np.full(width - dim, -1), np.arange(dim)])
        self._mask = (position < np.arange(dim)[:, None]).astype(np.float32)
        self._mean = x.mean(0, dtype=np.float64).astype(np.float32)
        self._variance = np.maximum(1 - self._mean**2, 1e-3)
        self._steps = 1 / (self._curvature() * self._variance)
        p = (x[:, width - dim :].sum(0, dtype=np.float64) / 2 + len(x) / 2 + 0.5) / (len(x) + 1)
        self._bias = log_odds(p).astype(np.float32)
        self._weights = np.zeros((dim, width), np.float32)

    def _curvature(self) -> float:
        """A bound of the loss's curvature over the regressors' variances, by power iteration."""
        scale = 1 / np.sqrt(self._variance)
        v = np.random.default_rng(0).random(len(scale), dtype=np.float32) + 0.5
        value = 1.0
        for _ in range(POWER_STEPS):
            v /= max(float(np.linalg.norm(v)), 1e-30)  # of a single row nothing is left: 0
            total = np.zeros_like(v)
            for at in range(0, len(self._x), CHUNK):
                block = (self._x[at : at + CHUNK] - self._mean) * scale
                total += block.T @ (block @ v)
            value = float(v @ total) / len(self._x)
            v = total
        return 0.25 * 1.1 * max(value, 1.0)

    def _gradient(self, weights: Float32, bias: Float32) -> tuple[Floats, Floats]:
        """Of the mean loss, by centered weights and by their bias."""
        by_weights, by_bias = np.zeros_like(weights), np.zeros_like(bias)
        for at in range(0, len(self._x), CHUNK):
            block = self._x[at : at + CHUNK]
            centered = block - self._mean
            error = sigmoid(centered @ weights.T + bias) - (block[:, -self._dim :] > 0)
            by_weights += error.T @ centered
            by_bias += error.sum(0)
        return by_weights * self._mask / len(self._x), by_bias / len(self._x)

    def minimize(self, penalty: float, steps: int) -> None:
        """So many steps toward the minimum at a penalty."""
        weights, bias, momentum = self._weights, self._bias, 1.0
        ahead, ahead_bias = weights, bias
        for _ in range(steps):
            slope, slope_bias = self._gradient(ahead, ahead_bias)
            new = ahead - self._steps * slope
            new -= np.clip(new, -penalty * self._steps, penalty * self._steps)
            new_bias = ahead_bias - slope_bias  # a quarter of what its curvature, at most 1 / 4, allows
            moved, moved_bias = new - weights, new_bias - bias
            uphill = np.vdot(ahead - new, moved) + np.vdot(ahead_bias - new_bias, moved_bias)
            if uphill > 0:  # the momentum points uphill: begin it anew
                momentum = 1.0
            following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
            factor = np.float32((momentum - 1) / following)
            ahead, ahead_bias = new + factor * moved, new_bias + factor * moved_bias
            momentum, weights, bias = following, new, new_bias
        self._weights, self._bias = weights, bias

    def chain(self) -> tuple[Float64, Float32]:
        """Bias and weights for regressors that are not centered."""
        bias = self._bias.astype(np.float64) - self._weights.astype(np.float64) @ self._mean
        return bias, self._weights.copy()
