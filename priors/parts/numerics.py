"""Elementary functions that stay finite, and distances between codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors.arrays import Bits, Float32, Float64, Floats


def sigmoid(x: Floats) -> Floats:
    """σ(x) = 1 / (1 + e^−x)."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def log_sigmoid(x: Floats) -> Floats:
    """log σ(x)."""
    return -np.logaddexp(0, -x)


def log_odds(p: Any) -> Any:
    """log p / (1 − p) of a probability or of an array of them, the inverse of :func:`sigmoid`."""
    return np.log(p) - np.log1p(-p)


def softmax(x: Floats) -> Floats:
    """exp x_j / Σ_k exp x_k along the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def log_softmax(x: Floats) -> Floats:
    """The logarithm of :func:`softmax`."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def log_sum_exp(x: Floats, axis: int, overwrite: bool = False) -> Float64:
    """log Σ_j exp x_j along an axis; with ``overwrite`` the work is done in ``x``, which saves its memory.

    Example:
        >>> log_sum_exp(np.log([[1.0, 2.0], [3.0, 4.0]]), axis=0).round(4)
        array([1.3863, 1.7918])
    """
    top = x.max(axis, keepdims=True)
    powers = np.subtract(x, top, out=x if overwrite else None)
    np.exp(powers, out=powers)
    return np.asarray(np.log(powers.sum(axis, dtype=np.float64)) + top.squeeze(axis))


def draw_index(weights: Floats, u: Floats) -> NDArray[np.intp]:
    """An index per row, drawn by uniform numbers u (R,), as likely as its weight in (R, K), or (1, K) for all rows."""
    cumulative = np.cumsum(weights, axis=1)
    if len(weights) == 1:
        index = np.searchsorted(cumulative[0], u * cumulative[0, -1], side="right")
    else:
        index = (cumulative <= u[:, None] * cumulative[:, -1:]).sum(1)
    return np.minimum(index, weights.shape[1] - 1)


def hamming(a: Bits, b: Float32) -> Float32:
    """Hamming distances between the rows of ``a`` (R, D) and of ``b`` (N, D): (R, N).

    |a − b| = |a| + |b| − 2 aᵀb; whole numbers below 2²⁴ are exact in float32.
    """
    left = a.astype(np.float32)
    distances = left @ b.T
    distances *= -2
    distances += left.sum(1)[:, None]
    distances += b.sum(1)
    return distances
