"""Editing: an image's own noise under other bits, x̃ = decode(z̃, x_T) where x_T = invert(x, z).

z says what the image is and x_T what of it the bits leave open: DDIM turns (z, x_T) back into x, up to an error of
O(1/T), and (z̃, x_T) into an image that keeps what no bit says (K. Preechakul et al., "Diffusion Autoencoders", 2022,
arXiv 2111.15640, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dmzcli.errors import UserError
from dmzcli.generation.decode import decode, invert, usual_batch
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run

Array = np.ndarray


def check_invertible(run: Run) -> None:
    """Raises UserError where a run's images have no x_T that bits could be changed under."""
    if not run.config.model.dim:
        raise UserError(
            f"{run.path} has latent 'none', and so no bits to edit", "train one with --latent bernoulli"
        )
    gamma = run.config.diffusion.perturbation
    if gamma:
        raise UserError(
            f"{run.path} was trained with input perturbation {gamma:g}, whose images DDIM cannot invert",
            "train a run with --set diffusion.perturbation=0",
        )


def redecode(
    model: Autoencoder,
    images: Array,
    bits: Array,
    others: Sequence[Array],
    recipe: Recipe,
    batch_size: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> list[Array]:
    """Images with their own x_T under other bits.

    Arguments:
        model: The autoencoder, in evaluation mode.
        images: uint8 (N, H, W, C).
        bits: Their own, uint8 (N, D).
        others: Each uint8 (N, D); ``bits`` itself gives the reconstructions.
        recipe: A DDIM recipe with eta 0: its timesteps are walked back and forth.
        batch_size: Images at a time; ``None`` for what suits the device.
        done: Told how many images are finished.

    Returns:
        For each of ``others`` uint8 (N, H, W, C).

    Raises:
        UserError: The bits do not fit the model, or its weights make no finite images.
    """
    sampler = recipe.create(model.config.diffusion)
    batch_size = batch_size or usual_batch(model)
    results = [np.empty_like(images) for _ in others]
    for first in range(0, len(images), batch_size):
        part = slice(first, min(first + batch_size, len(images)))
        start = invert(model, images[part], bits[part], sampler, batch_size)
        for result, codes in zip(results, others, strict=True):
            result[part] = decode(
                model,
                codes[part],
                sampler,
                range(part.start, part.stop),
                seed=0,  # eta is 0: no noise is drawn
                batch_size=batch_size,
                precision=recipe.precision,
                start=start,
            )
        done(part.stop)
    return results
