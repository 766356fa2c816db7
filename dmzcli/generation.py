"""Decoding: bits and noise to images, in T steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dmzcli.autoencoder import Autoencoder
from dmzcli.batches import to_uint8
from dmzcli.randomness import ImageNoise
from dmzcli.samplers import Sampler

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
