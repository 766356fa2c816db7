"""What goes into a training step: the images and every random number, as functions of (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.config import Config
from dmzcli.diffusion.timesteps import Timesteps
from dmzcli.model import latents
from dmzcli.system.randomness import stream, torch_stream


@lru_cache(maxsize=2)
def _epoch(seed: int, epoch: int, count: int) -> np.ndarray:
    return stream("order", seed, epoch).permutation(count)


def batch_rows(seed: int, step: int, batch: int, count: int) -> np.ndarray:
    """Which of ``count`` training images make the batch of ``step``, int64 (batch,).

    Each epoch is a permutation of its own, drawn from (seed, epoch); batches run on across epochs.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    rows = np.empty(batch, np.int64)
    for epoch in np.unique(positions // count):
        inside = positions // count == epoch
        rows[inside] = _epoch(seed, int(epoch), count)[positions[inside] % count]
    return rows


@dataclass(frozen=True)
class Draw:
    """The random numbers of one step, for the whole batch over all processes.

    Attributes:
        index: Timesteps, int64 (B,).
        weight: What each image's loss counts, 1 on average, (B,).
        noise: ε, the target, (B, C, H, W).
        perturbed: ε + γξ, what the input is made with (M. Ning et al. 2023, eq. 8).
        codes: Noise of the latent's relaxation (B, …), or ``None`` without a latent.
        flip: Mask of the images that are mirrored, bool (B,).
        prefix: Number of bits that are kept of each image's, int64 (B,); ``None`` where all always are.
    """

    index: Tensor
    weight: Tensor
    noise: Tensor
    perturbed: Tensor
    codes: Tensor | None
    flip: Tensor
    prefix: Tensor | None = None

    def part(self, rank: int, ranks: int) -> Draw:
        """The numbers of one of ``ranks`` equal parts of the batch."""
        part = slice(rank * len(self.index) // ranks, (rank + 1) * len(self.index) // ranks)
        whole = {field.name: getattr(self, field.name) for field in fields(self)}
        values: dict[str, Any] = {k: None if v is None else v[part] for k, v in whole.items()}
        return Draw(**values)


def draw(
    config: Config,
    images: int,
    device: torch.device,
    *name: str | int,
    timesteps: Timesteps | None = None,
) -> Draw:
    """Draws for ``images`` images from the stream ``name``; timesteps evenly, unless a sampler of them is given."""
    generator, latent = torch_stream(device, *name), latents.create(config.model)
    shape = (images, *config.shape)

    def normal() -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=device)

    if timesteps is None:
        index = torch.randint(config.diffusion.timesteps, (images,), generator=generator, device=device)
        weight = torch.ones(images, device=device)
    else:
        index, weight = timesteps.draw(uniform(images))
    noise, gamma = normal(), config.diffusion.perturbation
    codes = latent.noise(uniform(images, *latent.noise_shape)) if latent.dim else None
    perturbed = noise + gamma * normal() if gamma else noise
    flip = uniform(images) < 0.5
    prefix = prefixes(config, uniform(images), uniform(images)) if config.model.nested else None
    return Draw(index, weight, noise, perturbed, codes, flip, prefix)


def prefixes(config: Config, any_at_all: Tensor, which: Tensor) -> Tensor:
    """How many of the bits are kept, int64 (B,), from two uniform numbers in [0, 1) each.

    None with probability ``training.unconditional``; else, by ``training.prefix``, those of 1, 2, 4, … or all variables
    (R. Bachmann et al., "FlexTok", 2025, arXiv 2502.13967), or of 1 to all, each with the same probability.
    """
    width = config.model.variable_bits
    every = config.model.dim // width
    powers = [*(1 << k for k in range(every.bit_length()) if 1 << k < every), every]
    counts = powers if config.training.prefix == "powers" else range(1, every + 1)
    kept = width * torch.tensor(counts, device=which.device)[(which * len(counts)).long()]
    return torch.where(any_at_all < config.training.unconditional, 0, kept)
