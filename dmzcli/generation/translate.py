r"""Translation: an image of one side of pairs, through bits, to images of the other side.

.. math::
    p(x_B \mid x_A) = \sum_{z_B} p(x_B \mid z_B)\, p(z_B \mid z_A), \qquad z_A = \arg\max_z q(z \mid x_A)

A's encoder gives the bits z_A, a map draws bits z_B, and B's denoiser makes the image. The paper's map rounds, so that
one drawing has one code (Proszewska, Malkin, Siddharth, 2025, arXiv 2506.00136); a distribution p(z_B | z_A) has many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import priors
from dmzcli.codes.encode import bits_of
from dmzcli.codes.pair import find_map
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs.pair import PairOfRuns, find_pair
from dmzcli.runs.run import Run
from dmzcli.system.devices import pick
from dmzcli.system.randomness import derive
from priors.checks import COLDEST

Array = np.ndarray


def draw_seed(seed: int, draw: int) -> int:
    """The seed of the bits and the noise of every input's draw ``draw``."""
    return derive("translate", seed, draw)


@dataclass(frozen=True, eq=False)
class Translator:
    """A pair of models and the map between their bits, in one direction.

    Attributes:
        pair: The runs.
        direction: ``A-to-B`` or ``B-to-A``.
        encoder: The model of the side that is translated from.
        decoder: The model of the side that is translated to.
        folder: The map's.
        map: p(bits of the one side | bits of the other).
    """

    pair: PairOfRuns
    direction: str
    encoder: Autoencoder
    decoder: Autoencoder
    folder: Path
    map: priors.Prior

    @classmethod
    def load(
        cls,
        pair: str | PairOfRuns,
        direction: str = "A-to-B",
        prior: str | None = None,
        device: str | torch.device | None = None,
    ) -> Translator:
        """Loads what translates.

        Arguments:
            pair: A pair's name, such as ``shoes`` of ``runs/shoes-A`` and ``runs/shoes-B``, or the pair.
            direction: ``A-to-B`` or ``B-to-A``.
            prior: The map, by its kind, its name in the target's run, or its folder; by default the newest.
            device: Where to compute; by default the best there is.

        Raises:
            UserError: A side or the map is missing, or they are not of each other.
            priors.PriorError: The map's folder is damaged.
        """
        runs = find_pair(pair) if isinstance(pair, str) else pair
        source, target = runs.sides(direction)
        folder, fitted = find_map(runs, direction, prior)
        where = device if isinstance(device, torch.device) else pick(device)
        encoder, decoder = source.load_model(where), target.load_model(where)
        return cls(runs, direction, encoder, decoder, folder, fitted)

    @property
    def source(self) -> Run:
        """The run that is translated from."""
        return self.pair.sides(self.direction)[0]

    @property
    def target(self) -> Run:
        """The run that is translated to."""
        return self.pair.sides(self.direction)[1]

    def check(self, images: Array) -> None:
        """Raises UserError unless images are uint8 (N, H, W, C) of the side that is translated from."""
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
            given = (
                f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            )
            raise UserError(
                f"images is {given}, expected uint8 (N, H, W, C)",
                "one image is images[None]; channels come last",
            )
        side = self.direction[0]
        self.encoder.check_images(images, f"they have to be like side {side} of the pair", "the inputs are")

    def draw(self, images: Array, draw: int, seed: int = 0, temperature: float = 1.0) -> Array:
        """The bits z_B of one draw for every image, uint8 (N, D).

        Arguments:
            images: uint8 (N, H, W, C) of the side that is translated from.
            draw: Which draw; each has a seed of its own.
            seed: Seed of all draws.
            temperature: Temperature of the map; toward 0 every bit is its likelier value.
        """
        self.check(images)
        given = bits_of(self.encoder, images)
        return self.map.sample(len(images), seed=draw_seed(seed, draw), given=given, temperature=temperature)

    def images(
        self,
        bits: Array,
        rows: Sequence[int],
        draw: int,
        recipe: Recipe,
        seed: int = 0,
        batch_size: int | None = None,
        done: Callable[[int], None] = lambda count: None,
    ) -> Array:
        """The images of one draw's bits, uint8 (N, H, W, C).

        Arguments:
            bits: uint8 (N, D), of :meth:`draw`.
            rows: The inputs' positions, (N,); they choose the noise.
            draw: Which draw.
            recipe: How the bits are decoded.
            seed: Seed of all draws.
            batch_size: Images at a time; ``None`` for what suits the device.
            done: Told how many images are finished.
        """
        sampler = recipe.create(self.decoder.config.diffusion)
        batch = batch_size or usual_batch(self.decoder)
        seed = draw_seed(seed, draw)
        return decode(self.decoder, bits, sampler, rows, seed, batch, done, recipe.precision)

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with what the target's run and this device make of it."""
        run = self.target
        return recipe.of(run).on(self.decoder.device, run.config).resolved(run.config.diffusion)

    def translate(
        self,
        images: Array,
        n: int = 4,
        seed: int = 0,
        temperature: float = 1.0,
        rounded: bool = False,
        batch_size: int | None = None,
        **recipe: Any,
    ) -> Array:
        """Translates images: n of the other side for each.

        Output (i, j) depends on input i, its position i, j and the seed alone: not on how many inputs or draws there
        are, nor on the batch size.

        Arguments:
            images: uint8 (N, H, W, C) of the side that is translated from.
            n: Draws for each.
            seed: Seed of bits and noise.
            temperature: Temperature of the map.
            rounded: Take every bit at its likelier value, as the paper's map does; draws then differ in noise alone.
            batch_size: Images at a time; by default what suits the device.
            recipe: ``sampler``, ``steps``, ``spacing``, … of :class:`~dmzcli.generation.recipe.Recipe`.

        Returns:
            uint8 (N, n, H′, W′, C′).

        Raises:
            UserError: The images are of another type or shape, n is not positive, or there is no such sampler.
        """
        if n < 1:
            raise UserError(f"n is {n}, expected at least 1", "say how many images to make of each input")
        self.check(images)
        channels, height, width = self.decoder.shape
        made = np.empty((len(images), n, height, width, channels), np.uint8)
        if len(images):
            how, warmth = self.recipe(Recipe(**recipe)), COLDEST if rounded else temperature
            for draw in range(n):
                bits = self.draw(images, draw, seed, warmth)
                made[:, draw] = self.images(bits, range(len(images)), draw, how, seed, batch_size)
        return made

    def facts(self) -> dict[str, Any]:
        """As JSON: the runs, their weights and the map."""
        return {
            "pair": self.pair.name,
            "direction": self.direction,
            "source": str(self.source.path),
            "source_model": self.source.weights_hash,
            "target": str(self.target.path),
            "target_model": self.target.weights_hash,
            "map": self.folder.name,
            "map_kind": self.map.kind,
            "map_sha256": self.map.sha256,
        }
