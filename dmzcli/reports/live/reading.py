r"""What a linear probe reads in a code, and the fewest flips that change its reading.

Logistic regression on bits z ∈ {0, 1}^D: p(k | z) ∝ exp(w_k · z + b_k) of classes, σ(w_k · z + b_k) of an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmzcli.analysis.probes.heads.logistic import Logistic
from dmzcli.analysis.probes.metrics import quality
from dmzcli.analysis.probes.targets import MAKERS, Target
from dmzcli.codes.table import BitTable
from dmzcli.data import SPLITS
from dmzcli.data.dataset import spread
from dmzcli.errors import UserError

Array = np.ndarray
FITTED = 20_000
"""Most train rows of a fit: a page should not be waited for."""
ENOUGH = 0.5
"""Probability from which on a reading says yes."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A fitted linear probe.

    Attributes:
        target: ``labels`` or ``attributes``.
        names: The K classes or attributes.
        exclusive: Whether they are classes, of which a code has one.
        weights, bias: float64 (D, K) and (K,).
        quality: Accuracy, or mean AUROC, on the valid rows.
        rows: Train rows that it was fitted on.
    """

    target: str
    names: tuple[str, ...]
    exclusive: bool
    weights: Array
    bias: Array
    quality: float
    rows: int

    def probabilities(self, bits: Array) -> Array:
        """p(k | z) of codes (M, D), float64 (M, K)."""
        logits = bits @ self.weights + self.bias
        if not self.exclusive:
            return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)


def fit_reader(table: BitTable, target: Target) -> Reader:
    """Fits on train, the L2 strength chosen on valid."""
    rows = {split: table.rows(split) for split in SPLITS}
    train = spread(rows["train"], FITTED)
    features, values = table.bits[train].astype(np.float32), target.values[train]
    valid, truth = table.bits[rows["valid"]].astype(np.float32), target.values[rows["valid"]]
    best: tuple[float, Array, Array] | None = None
    for candidate in Logistic().candidates(features, values, target.exclusive, 0):
        score = quality(candidate.predict(valid), truth, target.exclusive)
        if best is None or score > best[0]:
            # The scores are affine in the bits: those of no bit and of each bit alone are all there is to know.
            bias = candidate.predict(np.zeros((1, table.dim), np.float32))[0].astype(np.float64)
            best = score, candidate.predict(np.eye(table.dim, dtype=np.float32)) - bias, bias
    assert best is not None
    score, weights, bias = best
    return Reader(
        target.name, target.names, target.exclusive, weights.astype(np.float64), bias, score, len(train)
    )


def readers(table: BitTable) -> tuple[list[Reader], dict[str, str]]:
    """A reader of each target that the table has, and why one is left out."""
    columns = {"labels": table.labels, "attributes": table.attributes}
    if all(column is None for column in columns.values()):
        return [], {"probes": "the bit table has no labels and no attributes"}
    found, absent = [], {}
    rows = {split: table.rows(split) for split in SPLITS}
    for name, column in columns.items():
        try:
            found += [] if column is None else [fit_reader(table, MAKERS[name](table, rows))]
        except UserError as error:
            absent[f"the probe of {name}"] = error.message
    return found, absent


def fewest_flips(reader: Reader, bits: Array, k: int, more: bool, locked: Array) -> Array:
    """Flips that make a reading say yes, or no, the strongest first; one flip where it says so already.

    For an attribute the largest weights are the fewest flips. For a class each flip is the one that changes its
    log-odds the most, given those before.

    Arguments:
        reader: The probe.
        bits: uint8 (D,).
        k: The class or attribute.
        more: Toward yes; else toward no.
        locked: bool (D,), bits that stay.

    Returns:
        uint8 (D,); as it was where no free bit helps.
    """
    code = bits.copy()
    free = ~locked
    sign = 1.0 if more else -1.0
    for _ in range(len(bits)):
        flipped = code ^ np.eye(len(code), dtype=np.uint8)
        now = _log_odds(reader, code[None], k)[0]
        gains = np.where(free, sign * (_log_odds(reader, flipped, k) - now), -np.inf)
        best = int(gains.argmax())
        if gains[best] <= 1e-9:
            break
        code[best] ^= 1
        free[best] = False
        if (reader.probabilities(code[None])[0, k] > ENOUGH) == more:
            break
    return code


def _log_odds(reader: Reader, bits: Array, k: int) -> Array:
    """log p(k | z) − log(1 − p(k | z)), float64 (M,), exact where either is tiny."""
    logits = bits @ reader.weights + reader.bias
    if not reader.exclusive:
        return logits[:, k]
    others = np.delete(logits, k, 1)
    return logits[:, k] - np.logaddexp.reduce(others, axis=1)
