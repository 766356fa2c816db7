"""x_T of images: the recipe of a DDIM inversion, and which models have one.

What decodes an x_T again must take the same timesteps; see :mod:`dmzcli.diffusion.inversion`. Its estimates of the
image are bounded by a threshold all the same: without one (``none``) a network of good estimates comes a little nearer,
but one that predicts ε can run away at the noisiest timesteps, where x̂_0 holds ε's error divided by a small α.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.inversion import usual_steps
from dmzcli.diffusion.thresholds import PERCENTILE
from dmzcli.errors import UserError
from dmzcli.generation import decode as decoding
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder

Array = np.ndarray


def check_invertible(diffusion: DiffusionConfig, hint: str) -> None:
    """Refuses models whose x_T of an image says little: those of γ > 0 expect noise at every step.

    M. Ning et al., "Input Perturbation Reduces Exposure Bias in Diffusion Models", 2023, arXiv 2301.11706, for γ.

    Arguments:
        diffusion: The model's settings.
        hint: What to do instead.

    Raises:
        UserError: The model was trained with input perturbation.
    """
    if diffusion.perturbation > 0:
        raise UserError(
            f"DDIM cannot invert a model trained with input perturbation (diffusion.perturbation = "
            f"{diffusion.perturbation:g}): it expects noise at every step",
            hint,
        )


def inversion_recipe(
    diffusion: DiffusionConfig,
    steps: int | None = None,
    threshold: str = "clip",
    percentile: float = PERCENTILE,
) -> Recipe:
    """DDIM that inverts, and decodes again with a threshold: T steps, by default 100 or the most that fit.

    Raises:
        UserError: The steps do not fit the model.
    """
    if steps is not None and not 1 <= steps <= diffusion.timesteps:
        raise UserError(
            f"an inversion of {steps} steps does not fit a model of {diffusion.timesteps} timesteps",
            f"choose 1 to {diffusion.timesteps}",
        )
    count = usual_steps(diffusion) if steps is None else steps
    recipe = Recipe("ddim", count, threshold=threshold, percentile=percentile)
    recipe.create(diffusion)  # complains here and now where the spacing has no such stride
    return recipe.resolved(diffusion)


def invert(
    model: Autoencoder,
    images: Array,
    bits: Array | None,
    recipe: Recipe,
    batch_size: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> Array:
    """The noise x_T from which a recipe makes these images of these bits, up to an error of O(1/T).

    Arguments:
        model: The autoencoder, in evaluation mode.
        images: uint8 (N, H, W, C).
        bits: uint8 (N, D), or ``None`` for a model without a latent.
        recipe: Deterministic, such as :func:`inversion_recipe` gives; its timesteps are walked backwards.
        batch_size: Images at a time; ``None`` for what suits the device.
        done: Told how many images are finished.

    Returns:
        float32 (N, C, H, W).

    Raises:
        UserError: The bits do not fit the model, or the recipe does not.
    """
    sampler = recipe.create(model.config.diffusion)
    batch = batch_size or decoding.usual_batch(model)
    noises = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        codes = None if bits is None else bits[part]
        noises.append(decoding.invert(model, images[part], codes, sampler, batch))
        done(min(start + batch, len(images)))
    return np.concatenate(noises) if noises else np.empty((0, *model.shape), np.float32)
