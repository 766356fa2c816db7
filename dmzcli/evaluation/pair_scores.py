r"""Translations against their targets: how near they are, and how far the draws of one input are from each other.

Of N inputs with targets t_i and n images y_ij each, in features f (d is the Euclidean distance there):

- the distance to the target, E_i E_j d(y_ij, t_i), and that of the nearest of the n draws, E_i min_j d(y_ij, t_i);
- the mean squared error, the same in pixels in [0, 1];
- the diversity, E_i E_{j < k} d(y_ij, y_ik), and E_i E_{j < k} of the mean squared error.

A deterministic map minimizes the first and has no diversity; a distribution is to be near with its best draw, and as
diverse as the photos of near-equal drawings are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dmzcli.evaluation.scores import Score
from dmzcli.system.randomness import derive

Array = np.ndarray
_BLOCK = 256
"""Rows whose distances to all others are in memory at a time."""


def mean(name: str, values: Array) -> Score:
    """A mean over inputs (N,), with its standard error."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Score(name, float(values.mean()), error)


def flat(images: Array) -> Array:
    """Images (…, H, W, C) as rows of pixels in [0, 1], scaled so that a squared distance is the mean squared error."""
    size = int(np.prod(images.shape[-3:]))
    return images.reshape(*images.shape[:-3], size).astype(np.float32) / 255 / np.sqrt(size)


def to_target(rows: Array, targets: Array) -> Array:
    """Euclidean distances (N, n) of rows (N, n, F) to their targets (N, F)."""
    return np.asarray(np.linalg.norm(rows - targets[:, None], axis=2, ord=2), np.float64)


def among(rows: Array, power: int = 1) -> Array | None:
    """The mean distance (to a ``power``) between two of the n rows (N, n, F) of each input, (N,); ``None`` of one."""
    n = rows.shape[1]
    if n < 2:
        return None
    total = np.zeros(len(rows), np.float64)
    for j in range(n):
        for k in range(j + 1, n):
            total += np.linalg.norm(rows[:, j] - rows[:, k], axis=1) ** power
    return total / (n * (n - 1) / 2)


@dataclass(frozen=True, eq=False)
class Distances:
    """What is measured of every input, (N,) each; differences of two methods are paired by it."""

    values: Mapping[str, Array]

    def scores(self) -> list[Score]:
        """The means."""
        return [mean(name, values) for name, values in self.values.items()]

    def minus(self, other: Distances) -> list[Score]:
        """Means of the paired differences, of what both have."""
        return [
            mean(f"difference of {name}", values - other.values[name])
            for name, values in self.values.items()
            if name in other.values and not name.startswith("diversity")
        ]


def measure(images: Array, targets: Array, features: tuple[Array, Array] | None, label: str) -> Distances:
    """Everything that is measured of every input.

    Arguments:
        images: uint8 (N, n, H, W, C).
        targets: uint8 (N, H, W, C).
        features: Of the images, float32 (N, n, F), and of the targets, (N, F); ``None`` without a network.
        label: The network's name, for the names of the scores.
    """
    pixels = flat(images)
    errors = to_target(pixels, flat(targets)) ** 2
    found = {"mse": errors.mean(1)}
    if images.shape[1] > 1:
        found["mse-best"] = errors.min(1)
    if features is not None:
        distances = to_target(*features)
        found[f"distance-{label}"] = distances.mean(1)
        if images.shape[1] > 1:
            found[f"distance-{label}-best"] = distances.min(1)
        spread = among(features[0])
        if spread is not None:
            found[f"diversity-{label}"] = spread
    spread = among(pixels, 2)
    if spread is not None:
        found["diversity-mse"] = spread
    return Distances(found)


def nearest_rows(bits: Array, known: Array, count: int, own: Array) -> Array:
    """Of each code (N, D) the positions of the ``count`` nearest known codes (M, D) in Hamming distance, (N, count).

    Ties go to the lower position.

    Arguments:
        bits, known: uint8 of 0 and 1.
        count: Neighbors.
        own: int64 (N,), the position of each code among the known ones, which is no neighbor of itself; −1 for none.
    """
    signs, found = known.astype(np.float32), []
    weight = signs.sum(1)
    for start in range(0, len(bits), _BLOCK):
        part = bits[start : start + _BLOCK].astype(np.float32)
        distance = weight + part.sum(1, keepdims=True) - 2 * part @ signs.T
        self_ = own[start : start + _BLOCK]
        there = np.flatnonzero(self_ >= 0)
        distance[there, self_[there]] = np.inf
        found.append(distance.argsort(1, kind="stable")[:, :count])
    return np.concatenate(found)


def random_rows(
    labels: Array | None, pool: Array, of: Array | None, count: int, own: Array, seed: int
) -> Array:
    """For each of N images ``count`` positions of the pool, drawn without repetition, of its class where it has one.

    Arguments:
        labels: int64 (N,), the images' classes, or ``None``.
        pool: int64 (M,), the rows to draw from.
        of: int64 (M,), the classes of the pool's rows, or ``None``.
        count: Draws; where a class has fewer images, they repeat.
        own: int64 (N,), the row of each image, which is not drawn for itself.
        seed: Seed of the draws.

    Returns:
        Rows, int64 (N, count).
    """
    rng = np.random.default_rng(derive("random images", seed))
    chosen = np.empty((len(own), count), np.int64)
    for i, row in enumerate(own):
        same = pool if labels is None or of is None else pool[of == labels[i]]
        same = same[same != row] if (same != row).any() else same
        chosen[i] = rng.choice(same, count, replace=len(same) < count)
    return chosen
