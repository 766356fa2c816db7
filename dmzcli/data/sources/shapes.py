"""Drawn shapes with known factors: 20,000 color images of 32×32 pixels, generated, the same on every machine.

One shape on black is drawn of six independent factors, in the manner of dSprites (L. Matthey et al., 2017,
https://github.com/google-deepmind/dsprites-dataset): which shape (the class), its column and row, its size, its hue
and its rotation. Position, size and rotation are uniform numbers, so that no two images are alike and test images are
new; what is told of each factor is its level. Levels are attributes named ``factor=level``, one of which is 1 in every
image: 4 columns, 4 rows, 3 sizes, 6 hues and 3 rotations within [0°, 90°), after which a square is itself again.

A pixel at signed distance d from a shape's edge, in pixels, has the coverage min(max(1/2 − d, 0), 1). In gray
(``data.channels=1``) the six hues are six levels of brightness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmzcli.data.crops import Crop
from dmzcli.data.dataset import Content, Progress, Source
from dmzcli.data.splits import TEST, TRAIN, VALID, hold_out, numbered

SIDE = 32
SHAPES = ("square", "ellipse", "triangle", "cross")
LEVELS: dict[str, tuple[str, ...]] = {
    "column": ("1", "2", "3", "4"),
    "row": ("1", "2", "3", "4"),
    "size": ("small", "medium", "large"),
    "hue": ("red", "yellow", "green", "cyan", "blue", "magenta"),
    "rotation": ("0-30", "30-60", "60-90"),
}
"""The factors besides the shape, and the names of their levels."""
_NEAREST, _FARTHEST = 10.0, 22.0  # centers: the largest shape touches the edge
_SMALLEST, _LARGEST = 4.0, 10.0  # radii
_HUES = np.array([(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)], np.uint8)
_PIECE = 2000
Array = np.ndarray


class Shapes(Source):
    """Generated: 16,000 train, 2,000 valid, 2,000 test."""

    name = "shapes"
    summary = "drawn shapes of known position, size, hue and rotation, 32×32, generated"
    how_to_get = "nothing to do: it is drawn when it is read"
    count = 20_000

    def find(self, folders: Sequence[Path]) -> Path | None:
        return Path(__file__).parent

    def read(self, where: Path, crop: Crop, progress: Progress) -> Content:
        labels = np.arange(self.count, dtype=np.int64) % len(SHAPES)
        uniform = _uniform(self.count)
        images = np.empty((self.count, SIDE, SIDE, 3), np.uint8)
        for start in range(0, self.count, _PIECE):
            rows = slice(start, start + _PIECE)
            images[rows] = draw(labels[rows], uniform[rows])
            progress(min(start + _PIECE, self.count), self.count)
        keys = np.array(numbered(self.name, self.count))
        split = np.full(self.count, TRAIN, np.uint8)
        for code in (TEST, VALID):
            left = np.flatnonzero(split == TRAIN)
            split[left[hold_out(keys[left].tolist(), labels[left], self.count // 10)]] = code
        attributes, names = _attributes(uniform)
        return Content(crop.apply_all(images, self.name), split, labels, SHAPES, attributes, names)

    def download(self, folder: Path) -> None:
        """Nothing to fetch."""


def draw(shapes: Array, uniform: Array) -> Array:
    """Draws shapes.

    Arguments:
        shapes: int (N,), positions in :data:`SHAPES`.
        uniform: Numbers in [0, 1), float64 (N, 5): column, row, size, hue and rotation.

    Returns:
        uint8 (N, 32, 32, 3).
    """
    column, row = _NEAREST + (_FARTHEST - _NEAREST) * uniform[:, :2].T
    radius = _SMALLEST + (_LARGEST - _SMALLEST) * uniform[:, 2]
    angle = uniform[:, 4] * np.pi / 2
    # Libraries differ in the last digits of cosines and in nothing else that is used here: rounded, images do not.
    cosine, sine = np.cos(angle).round(6), np.sin(angle).round(6)
    center = np.arange(SIDE) + 0.5
    x = ((center - column[:, None]) / radius[:, None])[:, None, :]
    y = ((center - row[:, None]) / radius[:, None])[:, :, None]
    along = x * cosine[:, None, None] + y * sine[:, None, None]
    across = y * cosine[:, None, None] - x * sine[:, None, None]
    distance = np.empty_like(along)
    for number, name in enumerate(SHAPES):
        rows = shapes == number
        distance[rows] = _DISTANCES[name](along[rows], across[rows])
    coverage = np.clip(0.5 - distance * radius[:, None, None], 0, 1)
    brightness = np.rint(255 * coverage).astype(np.uint8)
    hue = _HUES[_level(uniform[:, 3], len(_HUES))]
    return brightness[..., None] * hue[:, None, None, :]


def _square(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.75


def _ellipse(x: Array, y: Array) -> Array:
    # The distance to first order: a function that is 1 on the edge, over its slope.
    value = np.sqrt(x * x + 4 * y * y)
    slope = np.sqrt(x * x + 16 * y * y)
    return value * (value - 1) / np.maximum(slope, 1e-9)


def _triangle(x: Array, y: Array) -> Array:
    return np.maximum(np.maximum(0.866025 * x + 0.5 * y, 0.5 * y - 0.866025 * x), -y) - 0.5


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 0.95, y - 0.3), np.maximum(x - 0.3, y - 0.95))


_DISTANCES = {"square": _square, "ellipse": _ellipse, "triangle": _triangle, "cross": _cross}
"""Signed distances of shapes of radius 1, negative inside."""


def _uniform(count: int) -> Array:
    """The factors' numbers, float64 (N, 5): fixed for ever, as other results stand on them."""
    key = int.from_bytes(hashlib.sha256(b"shapes").digest()[:8], "big")
    bits = np.random.Philox(key=key).random_raw(count * len(LEVELS)) >> np.uint64(11)
    return bits.reshape(count, len(LEVELS)) * 2.0**-53


def _level(uniform: Array, levels: int) -> Array:
    return (uniform * levels).astype(np.int64)


def _attributes(uniform: Array) -> tuple[Array, tuple[str, ...]]:
    """One column per level of every factor, uint8 (N, A), and their names."""
    columns, names = [], []
    for number, (factor, levels) in enumerate(LEVELS.items()):
        columns.append(np.eye(len(levels), dtype=np.uint8)[_level(uniform[:, number], len(levels))])
        names += [f"{factor}={level}" for level in levels]
    return np.concatenate(columns, axis=1), tuple(names)
