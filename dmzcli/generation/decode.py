"""Decoding: bits and noise to images, in T steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from dmzcli.diffusion.inversion import invert as invert_batch
from dmzcli.diffusion.samplers import Sampler
from dmzcli.errors import UserError
from dmzcli.generation.guidance import Guidance
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_uint8, to_unit
from dmzcli.system.randomness import ImageNoise

Array = np.ndarray


def usual_batch(model: Autoencoder) -> int:
    """Images at a time where nobody says."""
    return usual_count(model.shape[-1], model.device)


def usual_count(size: int, device: torch.device) -> int:
    """The same for images of a size: on a CPU as many as its caches hold, else 64.

    Activations of sixteen 32×32 images fit; more are slower, and so are fewer (measured on 2 cores, 1 MiB of L2 each).
    """
    return min(256, max(4, 16 * 32**2 // size**2)) if device.type == "cpu" else 64


def decode(
    model: Autoencoder,
    bits: Array | None,
    sampler: Sampler,
    indices: Sequence[int],
    seed: int,
    batch_size: int = 256,
    done: Callable[[int], None] = lambda count: None,
    precision: str = "no",
    start: Array | None = None,
    guidance: Guidance | None = None,
    watch: Callable[[Array], None] | None = None,
) -> Array:
    """Decodes codes into images; image i depends on (seed, i) and its bits alone.

    Arguments:
        model: The autoencoder, in evaluation mode.
        bits: uint8 (N, D), or ``None`` for a model without a latent; of nested bits some may be
            :data:`~dmzcli.model.latents.ABSENT`.
        sampler: Built for the model's diffusion.
        indices: The images' positions in the run, (N,); they choose the noise.
        seed: Seed of the noise.
        batch_size: Images at a time.
        done: Told how many images are finished.
        precision: ``no`` for float32, or ``bf16`` for the network's evaluations.
        start: x_T, float32 (N, C, H, W), such as :func:`invert` gives; by default drawn.
        guidance: Of the network with bits over the one without; ``None`` for none.
        watch: Shown a batch's estimates of the images at every step, uint8 (B, H, W, C); what it raises ends the call.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        UserError: The bits do not fit the model, or its weights make no finite images.
    """
    channels, height, width = model.shape
    images = np.empty((len(indices), height, width, channels), np.uint8)
    if guidance is not None:
        batch_size = max(1, batch_size // 2)  # each image is evaluated twice
    seen = None if watch is None else _as_images(watch)
    with torch.no_grad(), model.laid_out(precision):
        for first in range(0, len(indices), batch_size):
            part = slice(first, min(first + batch_size, len(indices)))
            noise = ImageNoise(seed, indices[part], model.shape, model.device)
            codes = on_device(model, bits, part)
            if guidance is None or codes is None:
                denoiser = model.denoiser(codes, precision)
            else:
                denoiser = guidance.denoiser(model, codes, precision)
            x = sampler.sample(denoiser, noise, on_device(model, start, part), seen)
            check_finite(x, f"images from number {indices[first]} on")
            images[part] = to_uint8(x)
            done(part.stop)
    return images


def invert(
    model: Autoencoder, images: Array, bits: Array | None, sampler: Sampler, batch_size: int = 256
) -> Array:
    """The noise x_T from which DDIM makes these images of these bits; see :mod:`dmzcli.diffusion.inversion`.

    Arguments:
        model: The autoencoder, in evaluation mode.
        images: uint8 (N, H, W, C).
        bits: uint8 (N, D), or ``None`` for a model without a latent.
        sampler: Sampler whose timesteps are walked backwards.
        batch_size: Images at a time.

    Returns:
        float32 (N, C, H, W).

    Raises:
        UserError: The bits do not fit the model.
    """
    noises = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            denoiser = model.denoiser(on_device(model, bits, part))
            noises.append(invert_batch(sampler.process, denoiser, to_unit(images[part], model.device)))
    return torch.cat(noises).cpu().numpy()


def _as_images(watch: Callable[[Array], None]) -> Callable[[Tensor], None]:
    return lambda x0: watch(to_uint8(x0))


def check_finite(x: Tensor, what: str) -> None:
    """Raises UserError unless what a network has made are finite numbers."""
    if not bool(x.isfinite().all()):
        raise UserError(
            f"the network's {what} are not finite numbers",
            "its weights are damaged, or training has failed: train the run anew",
        )


@overload
def on_device(model: Autoencoder, rows: Array, part: slice) -> Tensor: ...
@overload
def on_device(model: Autoencoder, rows: None, part: slice) -> None: ...
def on_device(model: Autoencoder, rows: Array | None, part: slice) -> Tensor | None:
    """Some rows of an array, where the model is."""
    return None if rows is None else torch.from_numpy(np.ascontiguousarray(rows[part])).to(model.device)
