"""Stability: how often a bit changes when the image is disturbed a little, or mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_unit
from dmzcli.system.randomness import stream

Array = np.ndarray
DEVIATIONS = (0.05, 0.2)
"""Of Gaussian noise on images in [−1, 1]: 6 and 25 gray levels of 256."""


@dataclass(frozen=True, eq=False)
class Stability:
    """Shares of images whose bit changes.

    Attributes:
        images: How many were disturbed.
        changes: By disturbance, float64 (D,).
        chance: Share of pairs of different images in which the bit differs, float64 (D,): what a bit that keeps
            nothing of the image would have.
    """

    images: int
    changes: dict[str, Array]
    chance: Array

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        changes = {name: share.tolist() for name, share in self.changes.items()}
        return {"images": self.images, "changes": changes, "chance": self.chance.tolist()}


def stability(model: Autoencoder, images: Array, seed: int = 0, batch_size: int = 256) -> Stability:
    """Encodes images as they are, with noise, and mirrored left to right.

    Arguments:
        model: The autoencoder, in evaluation mode.
        images: uint8 (N, H, W, C).
        seed: Seed of the noise; image i's depends on (seed, i) alone.
        batch_size: Images at a time.
    """
    names = [*(f"noise {deviation:g}" for deviation in DEVIATIONS), "mirrored"]
    changed = {name: np.zeros(model.dim) for name in names}
    ones = np.zeros(model.dim)
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            x = to_unit(images[start : start + batch_size], model.device)
            bits = model.bits(x)
            ones += bits.sum(0).cpu().numpy()
            drawn = np.stack(
                [
                    stream("stability", seed, start + i).standard_normal(model.shape, np.float32)
                    for i in range(len(x))
                ]
            )
            noise = torch.from_numpy(drawn).to(x)
            disturbed = [*(x + deviation * noise for deviation in DEVIATIONS), x.flip(3)]
            for name, other in zip(names, disturbed, strict=True):
                changed[name] += (model.bits(other) != bits).sum(0).cpu().numpy()
    share = ones / len(images)
    return Stability(
        len(images), {name: n / len(images) for name, n in changed.items()}, 2 * share * (1 - share)
    )
