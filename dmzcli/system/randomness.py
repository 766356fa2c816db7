"""Randomness that belongs to the item: each stream is named by what it is for, not by when it is drawn.

A stream is the counter-based generator Philox (J. Salmon et al., "Parallel Random Numbers: As Easy as
1, 2, 3", 2011) under a key derived from its name, such as ``("image", seed, index)``. Nothing here touches a
global generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def derive(*name: str | int) -> int:
    """A 63-bit seed for a named stream.

    Example:
        >>> derive("order", 0, 1) == derive("order", 0, 1) != derive("order", 0, 2)
        True
    """
    text = "/".join(f"{type(part).__name__}:{part}" for part in name)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*name: str | int) -> np.random.Generator:
    """A NumPy generator for a named stream; the same numbers on every machine."""
    return np.random.Generator(np.random.Philox(key=derive(*name)))


def torch_stream(device: torch.device, *name: str | int) -> torch.Generator:
    """A torch generator on ``device``; the same numbers on every device of one type."""
    return torch.Generator(device).manual_seed(derive(*name))


class ImageNoise:
    """Independent standard normal streams, one per image; image i's numbers depend on (seed, i) alone.

    Arguments:
        seed: Seed of the sampling run.
        indices: Positions of this batch's images in the run, (B,).
        shape: Shape of one image, (C, H, W).
        device: Device that needs the noise. It is drawn on the CPU, so that devices agree.
    """

    def __init__(
        self, seed: int, indices: Sequence[int], shape: tuple[int, ...], device: torch.device
    ) -> None:
        self.streams = [stream("image", seed, int(index)) for index in indices]
        self.shape, self.device = shape, device

    def __call__(self) -> Tensor:
        """The next noise of every image, float32 (B, C, H, W)."""
        drawn = np.empty((len(self.streams), *self.shape), np.float32)
        for row, generator in zip(drawn, self.streams, strict=True):
            generator.standard_normal(out=row, dtype=np.float32)
        return torch.from_numpy(drawn).to(self.device)
