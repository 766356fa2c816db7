"""A trained run as one object: q(z | x) encodes, p(x | z) decodes, and a prior p(z) gives new codes to decode.

Arrays go in and come out: images as uint8 (N, H, W, C), bits as uint8 (N, D) of 0 and 1. The results are those of
the commands: with the same seed, :meth:`Model.sample` makes the images of ``dmz sample``, and :meth:`Model.encode` the
bits of ``dmz encode``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

import priors
from dmzcli.codes.draw import check_prefix, draw_bits, with_absent
from dmzcli.codes.encode import bits_of
from dmzcli.codes.given import given_draws
from dmzcli.config import Config
from dmzcli.diffusion.inversion import usual_steps
from dmzcli.errors import UserError
from dmzcli.generation import decode as generation
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.translate import Translator
from dmzcli.model.latents import ABSENT
from dmzcli.runs import Run, find_run
from dmzcli.system.devices import pick

__all__ = ["Model", "Translator"]

Array = NDArray[np.uint8]


class Sampling(TypedDict, total=False):
    """How images are sampled: fields of :class:`~dmzcli.generation.recipe.Recipe`."""

    sampler: str
    steps: int
    spacing: str | None
    eta: float
    threshold: str
    percentile: float
    precision: str
    timesteps: tuple[int, ...] | None
    guidance: float
    guidance_interval: str | None


class Model:
    """The autoencoder of a trained run.

    Arguments:
        run: The run's directory.
        device: ``cpu``, ``cuda``, ``cuda:0``, … or ``mps``; by default the best there is.

    Raises:
        UserError: The directory is no run, its weights are missing or damaged, or there is no such device.

    Attributes:
        run: The run's directory, with its weights, bit table, priors and samples.
        autoencoder: The network itself, in evaluation mode.
    """

    def __init__(self, run: str | Path, device: str | None = None) -> None:
        self.run: Run = find_run(Path(run))
        self.autoencoder = self.run.load_model(pick(device))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"Model({str(self.run.path)!r}: {size} images, {self.dim} bits, on {self.autoencoder.device})"

    @property
    def config(self) -> Config:
        """The settings that the run was trained with."""
        return self.run.config

    @property
    def dim(self) -> int:
        """D, the number of bits of an image; 0 for a plain diffusion model."""
        return self.autoencoder.dim

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of an image."""
        channels, height, width = self.autoencoder.shape
        return height, width, channels

    def encode(self, images: Array, batch_size: int = 512) -> Array:
        """The most probable bits of images under q(z | x).

        Arguments:
            images: uint8 (N, H, W, C).
            batch_size: Images at a time.

        Returns:
            uint8 (N, D).

        Raises:
            UserError: The images are of another type or shape, or the model has no bits.
        """
        images = self._images(images)
        if not self.dim:
            raise UserError(
                "a plain diffusion model (latent 'none') has no bits", "train one with --latent bernoulli"
            )
        return (
            bits_of(self.autoencoder, images, batch_size)
            if len(images)
            else np.empty((0, self.dim), np.uint8)
        )

    def decode(
        self,
        bits: Array,
        seed: int = 0,
        noise: NDArray[np.float32] | None = None,
        batch_size: int | None = None,
        first: int = 0,
        **recipe: Unpack[Sampling],
    ) -> Array:
        """Images of bits, drawn from p(x | z); image i depends on its bits, the seed and i alone.

        Rows 3 and 4 of ``decode(bits)`` alone are ``decode(bits[3:5], first=3)``.

        Arguments:
            bits: uint8 (N, D); where they are nested, 2 stands for one that is absent.
            seed: Seed of the noise.
            noise: x_T, float32 (N, C, H, W), such as :meth:`invert` gives; by default drawn.
            batch_size: Images at a time; by default what suits the device.
            first: i of the first row.
            recipe: ``sampler``, ``steps``, ``spacing``, … of :class:`~dmzcli.generation.recipe.Recipe`.

        Returns:
            uint8 (N, H, W, C).

        Raises:
            UserError: An array is of another type, shape or value, or there is no such sampler.
        """
        bits = self._bits(bits)
        if noise is not None:
            shape = (len(bits), *self.autoencoder.shape)
            if not isinstance(noise, np.ndarray) or noise.dtype != np.float32 or noise.shape != shape:
                given = (
                    f"{noise.dtype} {noise.shape}" if isinstance(noise, np.ndarray) else type(noise).__name__
                )
                raise UserError(
                    f"noise is {given}, expected float32 {shape}",
                    "one x_T for each row of bits, channels first",
                )
        if first < 0:
            raise UserError(f"first is {first}, expected at least 0", "it is the position of the first row")
        return self._decode(bits, len(bits), seed, batch_size, Recipe(**recipe), noise, first)

    def invert(
        self,
        images: Array,
        bits: Array | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        spacing: str | None = None,
    ) -> NDArray[np.float32]:
        """The noise x_T from which DDIM makes these images of their bits, up to an error of O(1/T).

        Decode it with the same steps and spacing: ``decode(bits, noise=noise, sampler="ddim", steps=100)``.

        Arguments:
            images: uint8 (N, H, W, C).
            bits: uint8 (N, D), one row for each image; by default the images' own.
            steps: T, the number of network evaluations per image; by default 100, or the most below that the spacing
                takes.
            batch_size: Images at a time; by default what suits the device.
            spacing: Name of the spacing of the timesteps; by default DDIM's usual one.

        Returns:
            float32 (N, C, H, W), channels first, as ``decode`` takes it.

        Raises:
            UserError: The images or bits are of another type or shape, their numbers differ, or the spacing does not
                take that many steps.
        """
        images = self._images(images)
        if not len(images):
            return np.empty((0, self.shape[2], *self.shape[:2]), np.float32)
        if bits is not None:
            bits = self._bits(bits)
            if len(bits) != len(images):
                raise UserError(
                    f"{len(bits)} rows of bits were given for {len(images)} images",
                    "give one row for each image, or leave bits out to take the images' own",
                )
        elif self.dim:
            bits = self.encode(images)
        diffusion = self.config.diffusion
        if steps is None:
            steps = usual_steps(diffusion, spacing)
        ddim = Recipe("ddim", steps, spacing).of(self.run).create(diffusion)
        batch = batch_size or generation.usual_batch(self.autoencoder)
        return generation.invert(self.autoencoder, images, bits, ddim, batch)

    def sample(
        self,
        prior: str | Path | priors.Prior | None = None,
        n: int = 64,
        seed: int = 0,
        temperature: float = 1.0,
        batch_size: int | None = None,
        classes: Sequence[str] = (),
        prefix: int | None = None,
        **recipe: Unpack[Sampling],
    ) -> Array:
        """New images: codes z from a prior p(z), decoded by p(x | z); fewer images are the first of more.

        Arguments:
            prior: A prior of the run by its name, a prior's folder, or a fitted prior; by default the run's newest. A
                plain diffusion model takes ``None``.
            n: Number of images.
            seed: Seed of bits and noise.
            temperature: Temperature of the prior; below 1 its likelier codes.
            batch_size: Images at a time; by default what suits the device.
            classes: Names or numbers of the classes to draw in turn, for a prior that is given labels; by default all.
            prefix: Number of bits that are kept, of nested ones; by default all that the prior draws.
            recipe: As in :meth:`decode`.

        Returns:
            uint8 (n, H, W, C).

        Raises:
            UserError: There is no such prior, it is of other bits than the model's, or ``n`` is not positive.
            priors.PriorError: The prior is not fitted, or its folder is damaged.
        """
        if n < 1:
            raise UserError(f"n is {n}, expected at least 1", "say how many images to make")
        if isinstance(prior, priors.Prior):
            bits: Array | None = self._draw(prior, n, seed, temperature, classes, prefix)
        else:
            name = None if prior is None else str(prior)
            bits = draw_bits(
                *(self.run, self.dim, name, n, seed, temperature), classes=classes, prefix=prefix
            ).bits
        return self._decode(bits, n, seed, batch_size, Recipe(**recipe))

    def _decode(
        self,
        bits: Array | None,
        count: int,
        seed: int,
        batch_size: int | None,
        recipe: Recipe,
        noise: NDArray[np.float32] | None = None,
        first: int = 0,
    ) -> Array:
        recipe = recipe.of(self.run).on(self.autoencoder.device, self.config)
        batch = batch_size or generation.usual_batch(self.autoencoder)
        sampler, guidance = recipe.create(self.config.diffusion), recipe.guided(self.config)
        return generation.decode(
            self.autoencoder,
            bits,
            sampler,
            range(first, first + count),
            seed,
            batch,
            precision=recipe.precision,
            start=noise,
            guidance=guidance,
        )

    def _draw(
        self,
        prior: priors.Prior,
        n: int,
        seed: int,
        temperature: float,
        classes: Sequence[str],
        prefix: int | None,
    ) -> Array:
        """Codes from a prior that the caller holds."""
        if prefix is not None:
            check_prefix(self.config, prefix, min(self.dim, prior.dim))
        if prior.dim != self.dim and not (self.config.model.nested and prior.dim < self.dim):
            raise UserError(
                f"the prior has {prior.dim} bits, the model of {self.run.path} has {self.dim}",
                "fit one to the bits of this model",
            )
        fitted_to = prior.metadata.get("model")
        if fitted_to is not None and fitted_to != self.run.weights_hash:
            raise UserError(
                f"the prior was fitted to the bits of another model than {self.run.weights}",
                "fit one to the bits of this model",
            )
        bits = prior.sample(
            n, seed=seed, given=given_draws(prior, n, classes=classes).bits, temperature=temperature
        )
        return with_absent(bits[:, :prefix], self.dim)

    def _images(self, images: Array) -> Array:
        """The images, if the model takes them."""
        expected = f"expected uint8 (N, {', '.join(map(str, self.shape))})"
        if not isinstance(images, np.ndarray):
            raise UserError(
                f"images is a {type(images).__name__}, {expected}", "convert it with numpy.asarray"
            )
        if images.dtype != np.uint8:
            raise UserError(
                f"images has dtype {images.dtype}, {expected}", "pixels are whole numbers, 0 to 255"
            )
        if images.ndim != 4 or images.shape[1:] != self.shape:
            raise UserError(
                f"images has shape {images.shape}, {expected}",
                "one image is images[None]; channels come last",
            )
        return images

    def _bits(self, bits: Array) -> Array:
        """The bits, if they are codes of the model."""
        if not self.dim:
            raise UserError(
                "a plain diffusion model (latent 'none') has no bits", "make its images with sample(n=...)"
            )
        nested = self.config.model.nested
        expected = f"expected uint8 (N, {self.dim}) of 0 and 1" + (" (2: absent)" if nested else "")
        if not isinstance(bits, np.ndarray):
            raise UserError(f"bits is a {type(bits).__name__}, {expected}", "convert it with numpy.asarray")
        if bits.dtype != np.uint8:
            raise UserError(
                f"bits has dtype {bits.dtype}, {expected}", "convert it with bits.astype(numpy.uint8)"
            )
        if bits.ndim != 2 or bits.shape[1] != self.dim:
            raise UserError(
                f"bits has shape {bits.shape}, {expected}", "use bits of this model, one code a row"
            )
        if bits.size and bits.max() > (ABSENT if nested else 1):
            raise UserError(f"bits holds the value {bits.max()}, {expected}", "unpack packed bits first")
        return bits
