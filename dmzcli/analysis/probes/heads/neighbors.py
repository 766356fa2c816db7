"""The k nearest training rows vote.

The distance is ‖a − b‖², which for codes of 0 and 1 is their Hamming distance, exact in float32 up to 2²⁴ bits. Rows at
one distance are taken in an order of chance, fixed by the seed, so that a sorted table favors no class.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from dmzcli.analysis.probes.heads.base import Candidate, Head
from dmzcli.system.randomness import stream

Array = np.ndarray
COUNTS = (1, 3, 10, 30, 100)
"""Values of k; of them those that train has rows for."""
_BLOCK = 1 << 25
"""Most distances at a time."""


class Neighbors(Head):
    """k nearest neighbors, k chosen on valid."""

    name = "knn"
    summary = "k nearest neighbors; by Hamming distance where the representation is of 0 and 1"

    def candidates(self, features: Array, values: Array, exclusive: bool, seed: int) -> Iterator[Candidate]:
        order = stream("probe neighbors", seed).permutation(len(features))
        # Small numbers lose nothing in the expansion of the square; bits stay whole.
        shift = 0 if _whole(features) else features.mean(0)
        train = torch.from_numpy(features[order] - shift)
        votes = values[order]
        counts = [k for k in COUNTS if k <= len(train)] or [1]
        known: dict[int, tuple[Array, Array]] = {}

        def nearest_of(x: Array) -> Array:
            if id(x) not in known or known[id(x)][0] is not x:
                known[id(x)] = x, nearest(torch.from_numpy(x - shift), train, counts[-1])
            return known[id(x)][1]

        for k in counts:

            def predict(x: Array, k: int = k) -> Array:
                return _share(votes, nearest_of(x)[:, :k])

            yield Candidate({"k": k}, predict)


def nearest(queries: torch.Tensor, rows: torch.Tensor, k: int) -> Array:
    """Positions of the k rows nearest to each query, the nearest first, int64 (M, k)."""
    half = (rows * rows).sum(1) / 2
    found = []
    for block in queries.split(max(1, _BLOCK // len(rows))):
        closeness = torch.addmm(half, block, rows.T, beta=-1)
        found.append(closeness.topk(k, dim=1).indices)
    return torch.cat(found).numpy()


def _whole(features: Array) -> bool:
    return bool(((features == 0) | (features == 1)).all())


def _share(values: Array, rows: Array) -> Array:
    """The share of each column among rows (M, k), float32 (M, K)."""
    total = np.zeros((len(rows), values.shape[1]), np.float32)
    for column in rows.T:
        total += values[column]
    return total / rows.shape[1]
