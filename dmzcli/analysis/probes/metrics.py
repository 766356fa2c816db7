"""Accuracy, AUROC and average precision, and what they would be on other test rows: the bootstrap.

A resample of n test rows is n counts that sum to n. All measures here are functions of scores and such counts, so that
two representations can be measured on the same resamples, and the interval of their difference is a paired one.
"""

from __future__ import annotations

import numpy as np

from dmzcli.system.randomness import stream

Array = np.ndarray
LEVEL = 0.95


def resamples(rows: int, times: int, seed: int) -> Array:
    """Counts of ``times`` bootstrap resamples of ``rows`` rows, float32 (times, rows)."""
    generator = stream("probe bootstrap", seed)
    counts = np.empty((times, rows), np.float32)
    for row in counts:
        row[:] = np.bincount(generator.integers(0, rows, rows), minlength=rows)
    return counts


def interval(values: Array) -> tuple[float, float]:
    """The central 95% of bootstrap values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def hits(scores: Array, values: Array) -> Array:
    """Whether the largest score is at the row's class, bool (M,)."""
    return np.asarray(scores.argmax(1) == values.argmax(1))


def rank_measures(scores: Array, truth: Array, counts: Array | None = None) -> tuple[Array, Array]:
    """AUROC and average precision of one attribute.

    AUROC is P(s⁺ > s⁻) + P(s⁺ = s⁻) / 2; average precision is Σ (R_t − R_{t−1}) P_t over the distinct scores t from
    the largest on (as scikit-learn's).

    Arguments:
        scores: (M,).
        truth: 0 and 1, (M,).
        counts: How often each row counts, (B, M); ``None`` once, B = 1.

    Returns:
        Two float64 arrays (B,); NaN where a resample has one value only.
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores, positive = scores[order], truth[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(sorted_scores) != 0]))
    weights = np.ones((1, len(order))) if counts is None else counts[:, order].astype(np.float64)
    gained = np.add.reduceat(weights * positive, starts, axis=1)
    lost = np.add.reduceat(weights * (1 - positive), starts, axis=1)
    above, below = gained.cumsum(1), lost.cumsum(1)
    positives, negatives = above[:, -1], below[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = 1 - (gained * (below - lost / 2)).sum(1) / (positives * negatives)
        precision = np.where(above + below > 0, above / (above + below), 0)
        average = (gained * precision).sum(1) / positives
    return np.where(negatives > 0, auroc, np.nan), np.where(negatives > 0, average, np.nan)


def quality(scores: Array, values: Array, exclusive: bool) -> float:
    """What candidates are chosen by: accuracy of classes, or the mean AUROC of attributes (0.5 of constant ones)."""
    if exclusive:
        return float(hits(scores, values).mean())
    each = [rank_measures(scores[:, k], values[:, k])[0][0] for k in range(values.shape[1])]
    return float(np.mean(np.nan_to_num(each, nan=0.5)))
