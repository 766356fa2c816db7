"""Decoding: bits and noise to images, in T steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.diffusion.inversion import invert as invert_batch
from dmzcli.diffusion.samplers import Sampler
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_uint8, to_unit
from dmzcli.system.randomness import ImageNoise

Array = np.ndarray


def usual_batch(model: Autoencoder) -> int:
    """Images at a time where nobody says: on a CPU as many as its caches hold, else 64.

    Activations of sixteen 32×32 images fit; more are slower, and so are fewer (measured on 2 cores, 1 MiB of L2 each).
    """
    size = model.config.data.size
    assert size is not None
    return min(256, max(4, 16 * 32**2 // size**2)) if model.device.type == "cpu" else 64


@contextmanager
def _laid_out(model: Autoencoder, precision: str) -> Iterator[None]:
    """Convolutions of float32 run faster on a CPU with the channels last; of bf16, or of tiny images, they do not."""
    size = model.config.data.size
    assert size is not None
    if model.device.type != "cpu" or precision != "no" or size < 32:
        yield
        return
    model.unet.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        model.unet.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def decode_batch(
    model: Autoencoder,
    bits: Tensor | None,
    sampler: Sampler,
    noise: Callable[[], Tensor],
    precision: str = "no",
) -> Tensor:
    """Images (B, C, H, W) in [−1, 1] from bits (B, D); their keys and values are computed once."""

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        # All images are at one timestep: its embedding is computed once.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return model.unet(x, t[:1], context).float()

    context = model.bits_context(bits)
    return sampler.sample(denoiser, noise)


def decode(
    model: Autoencoder,
    bits: Array | None,
    sampler: Sampler,
    indices: Sequence[int],
    seed: int,
    batch_size: int = 256,
    done: Callable[[int], None] = lambda count: None,
    precision: str = "no",
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
        precision: ``no`` for float32, or ``bf16`` for the network's evaluations.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        UserError: The bits do not fit the model.
    """
    size, channels = model.config.data.size, model.config.data.channels
    assert size is not None and channels is not None
    device = model.device
    images = np.empty((len(indices), size, size, channels), np.uint8)
    with _laid_out(model, precision):
        for start in range(0, len(indices), batch_size):
            part = slice(start, min(start + batch_size, len(indices)))
            codes = None if bits is None else torch.from_numpy(np.ascontiguousarray(bits[part])).to(device)
            noise = ImageNoise(seed, indices[part], (channels, size, size), device)
            images[part] = to_uint8(decode_batch(model, codes, sampler, noise, precision))
            done(part.stop)
    return images


def invert(
    model: Autoencoder, images: Array, bits: Array | None, sampler: Sampler, batch_size: int = 256
) -> Array:
    """The noise x_T from which DDIM makes these images of these bits; see :mod:`dmzcli.diffusion.inversion`.

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
    device, made = model.device, []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        codes = None if bits is None else torch.from_numpy(np.ascontiguousarray(bits[part])).to(device)
        with torch.no_grad():
            context = model.bits_context(codes)

        def denoiser(x: Tensor, t: Tensor, context: Any = context) -> Tensor:
            return model.unet(x, t, context)

        made.append(invert_batch(sampler.process, denoiser, to_unit(images[part], device)))
    return torch.cat(made).cpu().numpy()
