"""Thresholds: how an estimate x̂_0 is kept near the range of images, [−1, 1]."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dmzcli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

Threshold = Callable[["Tensor"], "Tensor"]
"""x̂_0 (B, C, H, W) → the same, bounded; image by image."""

KINDS = {
    "none": "leaves the estimate as it is",
    "clip": "clamps it to [-1, 1]",
    "dynamic": "clamps it to a percentile of its own pixels, and scales it down to [-1, 1]",
}
PERCENTILE = 0.995


def clip(x0: Tensor) -> Tensor:
    """Clamps to [−1, 1]."""
    return x0.clamp(-1, 1)


def dynamic(x0: Tensor, percentile: float = PERCENTILE) -> Tensor:
    """Clamps to [−s, s] and divides by s, where s ≥ 1 is a percentile of the image's own |x̂_0|.

    C. Saharia et al., "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding", 2022,
    arXiv 2205.11487, section 2.3.
    """
    values = x0.abs().flatten(1).float().sort(dim=1).values
    # torch's own quantile takes the rank in float64 on the device, and MPS has none. The rounding is torch's.
    rank = struct.unpack("f", struct.pack("f", percentile))[0] * (values.shape[1] - 1)
    below = values[:, math.floor(rank)]
    s = below.lerp(values[:, math.ceil(rank)], rank % 1).clamp_min(1).to(x0.dtype)[:, None, None, None]
    return x0.clamp(-s, s) / s


def bounded(kind: str, percentile: float = PERCENTILE) -> Threshold | None:
    """A threshold by name; ``None`` for ``none``.

    Arguments:
        kind: One of :data:`KINDS`.
        percentile: Percentile of ``dynamic``, in (0, 1].

    Raises:
        UserError: The name is unknown, or the percentile is not in (0, 1].
    """
    if kind not in KINDS:
        raise UserError(f"unknown threshold '{kind}'", did_you_mean(kind, KINDS, "thresholds"))
    if not 0 < percentile <= 1:
        raise UserError(
            f"--percentile {percentile} is not a number in (0, 1]", f"{PERCENTILE} is the published choice"
        )
    if kind == "dynamic":
        return lambda x0: dynamic(x0, percentile)
    return clip if kind == "clip" else None
