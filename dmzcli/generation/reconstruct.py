r"""Reconstructions: what an image's bits z = z(x) fix, and what they leave to x_T.

From bits alone, several x_T^k ~ N(0, I) give several images x̂^k of one code. Their squared error parts exactly,
1/K Σ_k ‖x − x̂^k‖² = ‖x − x̄‖² + 1/K Σ_k ‖x̂^k − x̄‖², with x̄ their mean: the first term is what the bits get wrong on
average, the second is what they leave open. From bits and the x_T that DDIM's inversion gives, little is left open: see
K. Preechakul et al., "Diffusion Autoencoders", 2022, arXiv 2111.15640, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmzcli.codes.encode import bits_of
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.inversion import invert
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import derive

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """Images, and what their bits decode to.

    Attributes:
        originals: uint8 (N, H, W, C).
        bits: uint8 (N, D).
        draws: From bits alone, uint8 (K, N, H, W, C), one x_T after the other.
        inverted: From bits and inverted x_T, uint8 (N, H, W, C); ``None`` where that was not asked for.
    """

    originals: Array
    bits: Array
    draws: Array
    inverted: Array | None

    @property
    def mean(self) -> Array:
        """x̄ over x_T, rounded: uint8 (N, H, W, C)."""
        return np.rint(self.draws.mean(0)).astype(np.uint8)

    @property
    def spread(self) -> Array:
        """Standard deviation of every pixel over x_T, of pixels in [0, 1] and unbiased in its square, (N, H, W, C).

        Raises:
            ValueError: There is one x_T alone.
        """
        if len(self.draws) < 2:
            raise ValueError("one x_T has no spread")
        deviation: Array = self.draws.std(0, dtype=np.float64, ddof=1) / 255
        return deviation


def reconstruct(
    model: Autoencoder,
    images: Array,
    recipe: Recipe,
    draws: int = 1,
    inversion: Recipe | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    talk: Talk | None = None,
) -> Reconstructions:
    """Encodes images to their most probable bits, and decodes these from drawn x_T and from the images' own.

    Arguments:
        model: An autoencoder with bits, in evaluation mode.
        images: uint8 (N, H, W, C).
        recipe: Decodes bits alone.
        draws: K, the number of x_T of an image.
        inversion: Inverts, and decodes again; see :func:`~dmzcli.generation.inversion.inversion_recipe`. ``None``
            leaves it out.
        seed: Seed of the noise; x_T^k of image i depends on (seed, k, i) alone.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Receives progress.

    Raises:
        UserError: The model has no bits, the images do not fit it, there are none, or a recipe does not fit.
    """
    if not model.dim:
        raise UserError(
            "a plain diffusion model (latent 'none') has no bits to reconstruct from",
            "train one with --latent bernoulli",
        )
    if not len(images):
        raise UserError("there are no images to reconstruct", "choose another --split or --count")
    model.check_images(images, "give images of the run's size and colors")
    talk, batch = talk or Silence(), batch_size or usual_batch(model)
    sampler, bits = recipe.create(model.config.diffusion), bits_of(model, images)
    made = np.empty((draws, *images.shape), np.uint8)
    with talk.task("from bits alone", draws * len(images)) as advance:
        for k in range(draws):
            # The first x_T is that of decode itself: the same seed makes the same images everywhere.
            own, before = seed if k == 0 else derive("reconstruct", seed, k), k * len(images)

            def done(count: int, before: int = before) -> None:
                advance(before + count, f"x_T {before // len(images) + 1}")

            made[k] = decode(model, bits, sampler, range(len(images)), own, batch, done, recipe.precision)
    back = None
    if inversion is not None:
        with talk.task("from bits and inverted x_T", 2 * len(images)) as advance:
            noise = invert(model, images, bits, inversion, batch, lambda count: advance(count, "inverting"))
            again, first = inversion.create(model.config.diffusion), len(images)
            back = decode(
                model,
                bits,
                again,
                range(first),
                seed,
                batch,
                lambda count: advance(first + count, "decoding"),
                start=noise,
            )
    return Reconstructions(images, bits, made, back)
