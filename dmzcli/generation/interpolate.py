r"""Interpolation: from one image to another, bit by bit, with x_T on the great circle between their inversions.

Bits flip one after the other, and x_T(t) = sin((1 − t) θ) / sin θ · x_T^a + sin(t θ) / sin θ · x_T^b with θ the angle
between the two (K. Shoemake, "Animating Rotation with Quaternion Curves", 1985): between two normal draws of many
dimensions it keeps their length, where a straight line would shorten it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import priors
from dmzcli.codes.encode import bits_of
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.inversion import check_invertible, inversion_recipe, invert
from dmzcli.generation.orders import ORDERS, along, check_order
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.randomness import stream

Array = np.ndarray
FRAMES = 9
"""Images of a strip, its ends included."""
FEWEST, MOST = 3, 1000
_PARALLEL = 1e-4
"""sin θ below which the great circle between two x_T is a point, or none."""


@dataclass(frozen=True, eq=False)
class Ends:
    """Pairs of images, their codes and x_T.

    Attributes:
        first, second: uint8 (P, H, W, C).
        bits: uint8 (2, P, D).
        noise: x_T, float32 (2, P, C, H, W).
        recipe: The recipe that x_T was inverted by, and that decodes it.
    """

    first: Array
    second: Array
    bits: Array
    noise: Array
    recipe: Recipe

    @classmethod
    def of(
        cls,
        model: Autoencoder,
        first: Array,
        second: Array,
        recipe: Recipe,
        batch_size: int | None = None,
        done: Callable[[int], None] = lambda count: None,
    ) -> Ends:
        """Encodes and inverts the images of pairs by a recipe of :func:`~dmzcli.generation.inversion.inversion_recipe`.

        Raises:
            UserError: As :func:`interpolate`.
        """
        check_pairs(model, first, second)
        images = np.concatenate([first, second])
        bits = bits_of(model, images)
        noise = invert(model, images, bits, recipe, batch_size, done)
        halves = (2, len(first))
        return cls(
            first,
            second,
            bits.reshape(*halves, *bits.shape[1:]),
            noise.reshape(*halves, *noise.shape[1:]),
            recipe,
        )


def interpolate(
    model: Autoencoder,
    first: Array,
    second: Array,
    order: str = "given",
    frames: int = FRAMES,
    prior: priors.Prior | None = None,
    steps: int | None = None,
    threshold: str = "clip",
    seed: int = 0,
    batch_size: int | None = None,
) -> Array:
    """Images on the way from each first to its second: the ends are (nearly) the images themselves.

    Arguments:
        model: An autoencoder with bits, in evaluation mode; ``dmzcli.load(RUN).autoencoder``.
        first, second: uint8 (P, H, W, C), the two ends of each pair.
        order: One of :data:`~dmzcli.generation.orders.ORDERS`.
        frames: F, at least 3, with both ends.
        prior: A fitted prior of the model's bits, which ``greedy`` needs.
        steps: T of inversion and decoding; by default 100, or the most that fit.
        threshold: Bound of each estimate of the image while decoding.
        seed: Seed of ``random`` orders.
        batch_size: Images at a time; ``None`` for what suits the device.

    Returns:
        uint8 (P, F, H, W, C).

    Raises:
        UserError: The model has no bits or no inversion, the images or the prior do not fit it, both images of a pair
            are one, there are fewer than 3 frames, or there is no such order.
        priors.PriorError: The prior is not fitted.
    """
    check_frames(frames)
    check_order(order)
    check_pairs(model, first, second)
    check_prior(model, prior)
    recipe = inversion_recipe(model.config.diffusion, steps, threshold)
    ends = Ends.of(model, first, second, recipe, batch_size)
    return walk(model, ends, paths(ends, order, frames, prior, seed), batch_size)


def paths(ends: Ends, order: str, frames: int, prior: priors.Prior | None = None, seed: int = 0) -> Array:
    """The codes of every frame, uint8 (P, F, D)."""
    codes = []
    for number, (a, b) in enumerate(zip(*ends.bits, strict=True)):
        codes.append(along(a, ORDERS[order](a, b, stream("flips", seed, number), prior), frames))
    return np.stack(codes)


def walk(
    model: Autoencoder,
    ends: Ends,
    codes: Array,
    batch_size: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> Array:
    """Decodes the codes of every frame, with x_T on the great circle.

    Arguments:
        model: The autoencoder.
        ends: The pairs.
        codes: uint8 (P, F, D).
        batch_size, done: As for :func:`~dmzcli.generation.decode.decode`.

    Returns:
        uint8 (P, F, H, W, C).
    """
    pairs, frames = codes.shape[:2]
    start, stop = ends.noise
    noise = np.stack([slerp(start, stop, float(t)) for t in np.linspace(0, 1, frames)], 1)
    images = decode(
        model,
        codes.reshape(pairs * frames, -1),
        ends.recipe.create(model.config.diffusion),
        range(pairs * frames),
        0,  # a deterministic recipe from given x_T draws nothing
        batch_size or usual_batch(model),
        done,
        start=noise.reshape(-1, *noise.shape[2:]),
    )
    return images.reshape(pairs, frames, *images.shape[1:])


def slerp(first: Array, second: Array, t: float) -> Array:
    """The point at ``t`` in [0, 1] of the great circle between vectors, row by row, (N, …); a straight line if there
    is none."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (first, second))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    angle = np.arccos(np.clip(cosine, -1, 1))[:, None]
    straight = np.sin(angle) < _PARALLEL
    sine = np.where(straight, 1, np.sin(angle))
    left = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    right = np.where(straight, t, np.sin(t * angle) / sine)
    return (left * a + right * b).astype(np.float32).reshape(first.shape)


def check_frames(frames: int) -> None:
    """Raises UserError unless a strip can have so many images."""
    if not FEWEST <= frames <= MOST:
        raise UserError(
            f"{frames} frames make no strip; expected {FEWEST} to {MOST:,}", f"{FRAMES} is usual; ends count"
        )


def check_pairs(model: Autoencoder, first: Array, second: Array) -> None:
    """Raises UserError unless a model can interpolate between these images."""
    if not model.dim:
        raise UserError(
            "a plain diffusion model (latent 'none') has no bits to interpolate",
            "train one with --latent bernoulli",
        )
    check_invertible(model.config.diffusion, "take a run with diffusion.perturbation 0")
    if len(first) != len(second) or not len(first):
        raise UserError(
            f"{len(first)} first and {len(second)} second images make no pairs",
            "give as many of each, and some",
        )
    for images in (first, second):
        if images.dtype != np.uint8:
            raise UserError(
                f"images are {images.dtype}, expected uint8", "pixels are whole numbers, 0 to 255"
            )
        model.check_images(images, "give images of the run's size and colors")
    same = np.flatnonzero((first == second).reshape(len(first), -1).all(1))
    if len(same):
        raise UserError(
            f"both images of pair {same[0] + 1} are the same: there is nothing between them",
            "name two images",
        )


def check_prior(model: Autoencoder, prior: priors.Prior | None) -> None:
    """Raises UserError where a prior is of other codes than the model's, or is given something."""
    if prior is not None and prior.dim != model.dim:
        raise UserError(
            f"the prior has {prior.dim} bits, the model has {model.dim}", "fit one to the bits of this model"
        )
    if prior is not None and prior.given_dim:
        raise UserError(
            f"the prior '{prior.kind}' was fitted given something, and codes on the way are given nothing",
            "fit one without --given",
        )
