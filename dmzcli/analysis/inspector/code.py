r"""Statistics of the code as a whole: how its bits depend on each other, how many codes there are in effect.

Total correlation is C = Σ H(Bᵢ) − H(B). H(B) of many bits cannot be counted from samples; but for every distribution q,
C ≥ E log q(B) − E log Π pᵢ(Bᵢ), with equality where q = p. So what fitted priors save over independent bits on held-out
codes bounds C from below.

The probability that two codes are equal, Σ p², is estimated without bias by the share of equal pairs; its inverse is
the effective number of codes (A. Rényi's entropy of order 2, exponentiated).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import priors

Array = np.ndarray
PAIRED = 2000
"""Codes whose Hamming distances are taken, each to each."""
FITTED = 5_000
"""Most codes that priors are fitted to here."""


@dataclass(frozen=True, eq=False)
class Code:
    """Statistics of the code.

    Attributes:
        rows: N.
        distinct: Different codes.
        largest: Rows of the most frequent code.
        collision: Estimate of Σ p².
        effective: Its inverse; ``None`` where no two rows agree.
        total_correlation: Lower bounds on C in bits, by prior: mean and 95% interval's half width.
        pairwise: I(Bᵢ; Bⱼ) in bits, bias corrected, float64 (D, D), H(Bᵢ) on the diagonal.
        order: The bits, such that dependent ones stand together, int64 (D,).
        within, between: Histograms over distances 0 … D of pairs of one class and of two, int64 (D + 1,); ``None``
            without classes, where ``between`` counts all pairs.
        means: Mean distance within each class; ``None`` for a class of fewer than two sampled rows.
    """

    rows: int
    distinct: int
    largest: int
    collision: float
    effective: float | None
    total_correlation: dict[str, tuple[float, float]]
    pairwise: Array
    order: Array
    within: Array | None
    between: Array
    means: dict[str, float | None]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        arrays = {name: value.tolist() for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return {**vars(self), **arrays}


def code_statistics(
    bits: Array,
    train: Array,
    held_out: Array,
    labels: Array | None = None,
    label_names: tuple[str, ...] = (),
    seed: int = 0,
) -> Code:
    """All of them.

    Arguments:
        bits: uint8 (N, D).
        train, held_out: Positions of rows to fit priors to, and to measure them on.
        labels, label_names: The classes, if known.
        seed: Seed of choices of rows.
    """
    _, counts = np.unique(np.packbits(bits, axis=1), axis=0, return_counts=True)
    pairs = len(bits) * (len(bits) - 1)
    equal = float((counts * (counts - 1)).sum() / pairs)
    pairwise = pairwise_information(bits)
    within, between, means = _distances(bits, labels, label_names, seed)
    return Code(
        rows=len(bits),
        distinct=len(counts),
        largest=int(counts.max()),
        collision=equal,
        effective=1 / equal if equal else None,
        total_correlation=total_correlation(bits[train], bits[held_out], seed),
        pairwise=pairwise,
        order=clustered(pairwise),
        within=within,
        between=between,
        means=means,
    )


def pairwise_information(bits: Array) -> Array:
    """I(Bᵢ; Bⱼ) in bits, bias corrected by 1 / 2N nats, float64 (D, D); H(Bᵢ) on the diagonal; 0 for constant bits."""
    count, ones = len(bits), bits.sum(0, dtype=np.float64)
    both = np.zeros((bits.shape[1],) * 2)
    for start in range(0, count, 1 << 16):
        part = bits[start : start + (1 << 16)].astype(np.float32)  # exact: whole numbers below 2^24
        both += part.T @ part
    cells = np.stack(
        [both, ones[:, None] - both, ones[None] - both, count - ones[:, None] - ones[None] + both]
    )
    left = np.stack([ones, ones, count - ones, count - ones])[:, :, None]
    right = np.stack([ones, count - ones, ones, count - ones])[:, None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(cells > 0, cells / count * np.log2(cells * count / (left * right)), 0.0)
    information: Array = terms.sum(0)
    live = (ones > 0) & (ones < count)
    corrected = np.where(np.outer(live, live), information - 1 / (2 * count * np.log(2)), 0.0)
    np.fill_diagonal(corrected, np.diag(information))
    return corrected


def clustered(pairwise: Array) -> Array:
    """An order of the bits in which dependent ones stand together: leaves of average linkage, int64 (D,)."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(pairwise) < 3:
        return np.arange(len(pairwise))
    own = np.diag(pairwise)
    least = np.maximum(np.minimum(own[:, None], own[None]), 1e-12)
    apart = 1 - np.clip(pairwise / least, 0, 1)
    np.fill_diagonal(apart, 0)
    apart = (apart + apart.T) / 2
    tree = linkage(squareform(apart, checks=False), "average", optimal_ordering=True)
    return leaves_list(tree).astype(np.int64)


def total_correlation(train: Array, held_out: Array, seed: int = 0) -> dict[str, tuple[float, float]]:
    """What each kind of prior saves over independent bits on held-out codes: lower bounds on C in bits.

    Returns:
        By kind, the mean over codes and half the width of its 95% interval; empty where too few codes are held out.
    """
    if len(train) < 20 or len(held_out) < 20:
        return {}
    train = train[np.linspace(0, len(train) - 1, min(len(train), FITTED)).round().astype(int)]
    independent = priors.create("bernoulli", dim=train.shape[1], seed=seed)
    independent.fit(train)
    base = independent.log_prob(held_out)
    found = {}
    kinds: dict[str, dict[str, Any]] = {"chow-liu": {}, "mixture": {"minutes": 1.0}}
    for kind, options in kinds.items():
        prior = priors.create(kind, dim=train.shape[1], seed=seed, **options)
        prior.fit(train)
        saved = (prior.log_prob(held_out) - base) / np.log(2)
        found[kind] = (float(saved.mean()), float(1.96 * saved.std(ddof=1) / np.sqrt(len(saved))))
    return found


def _distances(
    bits: Array, labels: Array | None, names: tuple[str, ...], seed: int
) -> tuple[Array | None, Array, dict[str, float | None]]:
    """Histograms within and between classes, and the mean within each, of at most :data:`PAIRED` rows."""
    rows = np.random.default_rng(seed).permutation(len(bits))[:PAIRED]
    part = bits[rows].astype(np.float32)
    weight = part.sum(1)
    distance = (weight[:, None] + weight[None] - 2 * part @ part.T).round().astype(np.int64)
    i, j = np.triu_indices(len(rows), 1)
    values, size = distance[i, j], bits.shape[1] + 1
    if labels is None:
        return None, np.bincount(values, minlength=size), {}
    chosen = labels[rows]
    same = chosen[i] == chosen[j]
    means: dict[str, float | None] = {}
    for number, name in enumerate(names):
        own = values[same & (chosen[i] == number)]
        means[name] = float(own.mean()) if len(own) else None
    histograms = (np.bincount(values[mask], minlength=size) for mask in (same, ~same))
    return next(histograms), next(histograms), means
