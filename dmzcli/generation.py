"""Decoding: bits and noise to images, in T steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.autoencoder import Autoencoder
from dmzcli.batches import to_uint8, to_unit
from dmzcli.randomness import ImageNoise
from dmzcli.samplers import Sampler
from dmzcli.samplers.inversion import invert as invert_batch

Array = np.ndarray


def model_device(model: torch.nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


@torch.no_grad()
def decode_batch(
    model: Autoencoder, bits: Tensor | None, sampler: Sampler, noise: Callable[[], Tensor]
) -> Tensor:
    """Images (B, C, H, W) in [−1, 1] from bits (B, D); their keys and values are computed once."""
    context = model.bits_context(bits)
    return sampler.sample(lambda x, t: model.unet(x, t, context), noise)


def decode(
    model: Autoencoder,
    bits: Array | None,
    sampler: Sampler,
    indices: Sequence[int],
    seed: int,
    batch_size: int = 256,
    done: Callable[[int], None] = lambda count: None,
) -> Array:
    """Decodes codes into images; image i depends on (seed, i) and its bits alone.

    Arguments:
        model: In evaluation mode.
        bits: uint8 (N, D), or ``None`` for a model without a latent.
        sampler: Built for the model's diffusion.
        indices: The images' positions in the run, (N,); they choose the noise.
        seed: Of the run.
        batch_size: Images at a time.
        done: Told how many images are finished.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        UserError: The bits do not fit the model.
    """
    size, channels = model.config.data.size, model.config.data.channels
    assert size is not None and channels is not None
    device = model_device(model)
    images = np.empty((len(indices), size, size, channels), np.uint8)
    for start in range(0, len(indices), batch_size):
        part = slice(start, min(start + batch_size, len(indices)))
        codes = None if bits is None else torch.from_numpy(np.ascontiguousarray(bits[part])).to(device)
        noise = ImageNoise(seed, indices[part], (channels, size, size), device)
        images[part] = to_uint8(decode_batch(model, codes, sampler, noise))
        done(part.stop)
    return images


def invert(
    model: Autoencoder, images: Array, bits: Array | None, sampler: Sampler, batch_size: int = 256
) -> Array:
    """The noise x_T from which DDIM makes these images of these bits; see :mod:`dmzcli.samplers.inversion`.

    Arguments:
        model: In evaluation mode.
        images: uint8 (N, H, W, C).
        bits: uint8 (N, D), or ``None`` for a model without a latent.
        sampler: Its timesteps are walked backwards.
        batch_size: Images at a time.

    Returns:
        float32 (N, C, H, W).

    Raises:
        UserError: The bits do not fit the model.
    """
    device, made = model_device(model), []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        codes = None if bits is None else torch.from_numpy(np.ascontiguousarray(bits[part])).to(device)
        with torch.no_grad():
            context = model.bits_context(codes)

        def denoiser(x: Tensor, t: Tensor, context: Any = context) -> Tensor:
            return model.unet(x, t, context)

        made.append(invert_batch(sampler.process, denoiser, to_unit(images[part], device)))
    return torch.cat(made).cpu().numpy()
