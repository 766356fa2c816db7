r"""Per-bit statistics: frequency, entropy, bits that say nothing or the same as others, and what bits say of factors.

For a bit B and a factor F (the class, or one attribute) the plug-in estimate of I(B; F) from N rows is too large by
(K − 1) / 2N nats on average, to first order in 1/N, with K the values of F (G. Miller, "Note on the bias of
information estimates", 1955): that is subtracted. 2N times the plug-in estimate is the statistic G of the likelihood
ratio test of independence, χ² with K − 1 degrees of freedom, with Williams' correction (D. Williams, 1976). Where a
cell expects fewer than 5 rows the χ² does not hold: then the test is Fisher's exact one for two values, and for more a
permutation test, whose tables are drawn from the hypergeometric law that permuting the factor gives them.

All tests of a table are one family, corrected by Holm's method (S. Holm, 1979): it keeps the probability of a single
false alarm among them below the level however bits and factors depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmzcli.codes.table import BitTable
from dmzcli.system.randomness import stream

Array = np.ndarray
LEVEL = 0.05
"""Probability of any false alarm."""
FEWEST = 5.0
"""Rows that each cell must expect for the χ² to hold."""
DRAWS = 200_000
"""Most tables of a permutation test."""
LOOK = 1_999
"""Tables of its first look."""


def entropy(p: Array) -> Array:
    """Entropy of bits that are 1 with probability ``p``, in bits."""
    p = np.asarray(p, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.nan_to_num(p * np.log2(p)) + np.nan_to_num((1 - p) * np.log2(1 - p))
    return np.abs(terms)


def equals(bits: Array) -> tuple[dict[int, int], dict[int, int], list[int]]:
    """Bits that repeat an earlier bit in every row, bits that negate one, and constant ones.

    Arguments:
        bits: uint8 (N, D) of 0 and 1.

    Returns:
        Duplicates and negations, each with the first bit that they repeat or negate; and the constant bits.
    """
    constant = [int(i) for i in np.flatnonzero((bits == bits[:1]).all(0))]
    first: dict[bytes, int] = {}
    duplicates: dict[int, int] = {}
    negations: dict[int, int] = {}
    for i, column in enumerate(np.ascontiguousarray(bits.T)):
        if i in constant:
            continue
        key = np.packbits(column ^ column[0]).tobytes()  # the same for a bit and its negation
        if key not in first:
            first[key] = i
        elif bits[0, first[key]] == column[0]:
            duplicates[i] = first[key]
        else:
            negations[i] = first[key]
    return duplicates, negations, constant


@dataclass(frozen=True, eq=False)
class Factor:
    """Something known of each row: its name and int64 (N,) positions in ``values``."""

    name: str
    codes: Array
    values: tuple[str, ...]


def factors(table: BitTable) -> list[Factor]:
    """The class and the attributes of a table's rows, as far as there are."""
    found = []
    if table.labels is not None:
        found.append(Factor("class", table.labels, table.label_names))
    if table.attributes is not None:
        for name, column in zip(table.attribute_names, table.attributes.T, strict=True):
            found.append(Factor(name, column.astype(np.int64), ("0", "1")))
    return found


@dataclass(frozen=True)
class Finding:
    """What one bit says of one factor.

    Attributes:
        bit: Position of the bit.
        factor: The factor's name.
        information: I(B; F) in bits, bias corrected; may be a little below 0.
        plug_in: The same, uncorrected.
        p: Of the test of independence.
        adjusted: The same by Holm's method: a finding where it is below the level.
        test: ``G``, ``Fisher`` or ``permutation``.
        rates: Frequency of the bit for each value of the factor; ``None`` for a value without rows.
    """

    bit: int
    factor: str
    information: float
    plug_in: float
    p: float
    adjusted: float
    test: str
    rates: tuple[float | None, ...]


def dependence(bits: Array, known: list[Factor], seed: int = 0) -> list[Finding]:
    """Every bit that is not constant against every factor that is not.

    Arguments:
        bits: uint8 (N, D).
        known: The factors.
        seed: Seed of permutation tests.

    Returns:
        All findings, those with the most information first.
    """
    rows: list[dict[str, Any]] = []
    ones = bits.sum(0, dtype=np.int64)
    live = np.flatnonzero((ones > 0) & (ones < len(bits)))
    tables = [_tables(bits[:, live], factor) for factor in known]
    tests = sum(counts.shape[2] for counts, _ in tables if counts.shape[1] > 1)
    for factor, (counts, present) in zip(known, tables, strict=True):
        if len(present) < 2:
            continue
        statistic = likelihood_ratio(counts)
        for bit, table, g in zip(live, np.moveaxis(counts, 2, 0), statistic, strict=True):
            p, test = _p_value(table, float(g), tests, seed)
            rates: list[float | None] = [None] * len(factor.values)
            for value, share in zip(present, table[1] / table.sum(0), strict=True):
                rates[value] = float(share)
            nats = g / (2 * len(bits))
            rows.append(
                {
                    "bit": int(bit),
                    "factor": factor.name,
                    "plug_in": float(nats / np.log(2)),
                    "information": float((nats - (len(present) - 1) / (2 * len(bits))) / np.log(2)),
                    "p": p,
                    "test": test,
                    "rates": tuple(rates),
                }
            )
    adjusted = holm(np.array([row["p"] for row in rows]))
    found = [Finding(**row, adjusted=float(q)) for row, q in zip(rows, adjusted, strict=True)]
    return sorted(found, key=lambda finding: -finding.information)


def _tables(bits: Array, factor: Factor) -> tuple[Array, Array]:
    """Counts int64 (2, values, bits) of a factor's values that have rows, and those values."""
    sizes = np.bincount(factor.codes, minlength=len(factor.values))
    present = np.flatnonzero(sizes)
    ones = np.stack([bits[factor.codes == value].sum(0, dtype=np.int64) for value in present])
    return np.stack([sizes[present, None] - ones, ones]), present


def likelihood_ratio(counts: Array) -> Array:
    """G = 2 Σ O log(O / E) of tables (2, K, …), in nats."""
    counts = counts.astype(np.float64)
    expected = counts.sum(0, keepdims=True) * counts.sum(1, keepdims=True) / counts.sum((0, 1), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        g: Array = 2 * np.where(counts > 0, counts * np.log(counts / expected), 0.0).sum((0, 1))
    return np.maximum(g, 0.0)


def _p_value(table: Array, g: float, tests: int, seed: int) -> tuple[float, str]:
    """p of one table (2, K), all of whose margins are positive."""
    from scipy.stats import chi2, fisher_exact

    rows, columns, count = table.sum(1), table.sum(0), table.sum()
    freedom = len(columns) - 1
    if (np.outer(rows, columns) / count).min() >= FEWEST:
        q = 1 + ((count / rows).sum() - 1) * ((count / columns).sum() - 1) / (6 * count * freedom)
        return float(chi2.sf(g / q, freedom)), "G"
    if freedom == 1:
        return float(fisher_exact(table)[1]), "Fisher"
    # A first look ends what is far from any finding; else enough tables that Holm's smallest threshold lies well above
    # the smallest p that they can give.
    most = int(min(DRAWS, max(9_999, 20 * tests / LEVEL)))
    for draws in (LOOK, most):
        generator = stream("permutation", seed, draws, *map(int, columns), int(rows[1]))
        ones = generator.multivariate_hypergeometric(columns, rows[1], size=draws, method="marginals")
        drawn = likelihood_ratio(np.stack([columns - ones, ones]).transpose(0, 2, 1))
        larger = int((drawn >= g - 1e-9).sum())
        if larger >= 20:
            break
    return (1 + larger) / (1 + draws), "permutation"


def holm(p: Array) -> Array:
    """Adjusted p-values: those below α keep the probability of any false alarm below α.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(steps) if len(p) else steps
    return adjusted
