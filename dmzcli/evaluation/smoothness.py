"""How even an interpolation is: its largest step over its mean step, next to what has no smooth path at all.

With φ the features of a frozen network (or LPIPS in their place) and x^0 … x^{F−1} a strip, s_f = ‖φ(x^{f+1}) − φ(x^f)‖
and the score is max s / mean s: 1 where every step is as large as the others, F − 1 where one step is all of the way.
A cross-fade of the pixels between the same two ends, and all bits flipped at once in the middle, are scored beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.evaluation.distances import LPIPS, measures
from dmzcli.evaluation.features import Extractor, check_known, create
from dmzcli.system.progress import Talk

Array = np.ndarray
Steps = Callable[[Array], Array]
"""Strips uint8 (P, F, H, W, C) → the lengths of their steps, float (P, F − 1)."""


def check_features(name: str | None) -> None:
    """Raises UserError unless steps can be measured in features of this name, or in none."""
    if name not in (None, "none", "lpips"):
        check_known(str(name))


def steps_in(
    features: str,
    side: int,
    dataset: Dataset | None,
    device: torch.device,
    weights: Path | None = None,
    batch_size: int = 64,
    talk: Talk | None = None,
) -> tuple[Steps, dict[str, Any]]:
    """Lengths of steps by the name of the features, and what a card says of them.

    Arguments:
        features: ``lpips``, or one of :func:`dmzcli.evaluation.features.extractor_names`.
        side: The images' shorter side.
        dataset: What a classifier is trained on, where it is one.
        device: Where to compute.
        weights: A file of the network's weights; by default downloaded, or trained.
        batch_size: Images at a time.
        talk: Receives progress.

    Raises:
        UserError: The name is unknown, or the network cannot be had or used.
    """
    if features == "lpips":
        if weights is not None:
            raise UserError("--weights means nothing to lpips", "leave it out")
        found, absent = measures(side, LPIPS, device, batch_size)
        if "lpips" in absent:
            raise UserError(f"no LPIPS: {absent['lpips']}", "use --features classifier, or none")
        return measure_steps(found["lpips"]), {"name": "lpips", "layer": LPIPS, "sha256": None}
    if dataset is None:
        raise UserError(f"--features {features} needs the run's dataset", "name its place with --data-dir")
    extractor = create(features, dataset, device, weights, talk=talk)
    facts = {"name": extractor.name, "layer": extractor.layer, "sha256": extractor.sha256, **extractor.facts}
    return feature_steps(extractor, batch_size), facts


def feature_steps(extractor: Extractor, batch_size: int = 64) -> Steps:
    """Steps in an extractor's features."""

    def steps(strips: Array) -> Array:
        features, _ = extractor(strips.reshape(-1, *strips.shape[2:]), batch_size)
        rows = features.astype(np.float64).reshape(*strips.shape[:2], -1)
        lengths: Array = np.linalg.norm(np.diff(rows, axis=1), axis=2)
        return lengths

    return steps


def measure_steps(measure: Callable[[Array, Array], Array]) -> Steps:
    """Steps by a distance of two images, such as LPIPS."""

    def steps(strips: Array) -> Array:
        before, after = (
            strips[:, part].reshape(-1, *strips.shape[2:]) for part in (slice(-1), slice(1, None))
        )
        return np.asarray(measure(before, after), np.float64).reshape(len(strips), -1)

    return steps


def unevenness(steps: Array) -> Array:
    """The largest step over the mean step, (P, F − 1) → (P,); 1 where no step has any length."""
    means = steps.mean(1)
    return np.where(means > 0, steps.max(1) / np.where(means > 0, means, 1), 1.0)


def cross_fade(first: Array, second: Array, frames: int) -> Array:
    """Pixels mixed from one image to the other, uint8 (P, H, W, C) → (P, F, H, W, C)."""
    parts = [(1 - t) * first + t * second.astype(np.float64) for t in np.linspace(0, 1, frames)]
    return np.rint(np.stack(parts, 1)).astype(np.uint8)
