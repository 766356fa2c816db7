"""Inpainting: one part of an image is kept, the other drawn anew from p(x | z) by RePaint.

The bits z are the image's own, which then still say what was in the part that is drawn, or codes of a prior, which do
not.
See :mod:`dmzcli.diffusion.repaint` for the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.data.formats.picture import decode as decode_picture
from dmzcli.diffusion.repaint import repaint
from dmzcli.errors import UserError, did_you_mean
from dmzcli.generation.decode import check_finite, decode, on_device, usual_batch
from dmzcli.generation.pictures import fit_picture
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_uint8, to_unit
from dmzcli.system.png import labelled_rows
from dmzcli.system.randomness import ImageNoise, derive
from dmzcli.system.reading import UNPACKED_BYTES, read_bytes

Array = np.ndarray
HALVES = ("left", "right", "top", "bottom")
SOURCES = ("image", "prior")


@dataclass(frozen=True, eq=False)
class Gap:
    """Which part of a picture is drawn anew: one of the three, in pixels of the picture as its file has it.

    Attributes:
        mask: A picture of the same size, white where pixels are drawn anew and black where they are kept.
        box: x0, y0, x1, y1: columns x0 to x1 and rows y0 to y1, ends excluded.
        half: left, right, top or bottom.
    """

    mask: Path | None = None
    box: tuple[int, int, int, int] | None = None
    half: str | None = None

    def of(self, height: int, width: int, name: str) -> Array:
        """bool (H, W), true where pixels are drawn anew.

        Raises:
            UserError: The mask is of another size, or the box reaches beyond the picture.
        """
        gap = np.zeros((height, width), bool)
        if self.mask is not None:
            picture, _ = decode_picture(read_bytes(self.mask, UNPACKED_BYTES), str(self.mask))
            if picture.shape[:2] != (height, width):
                raise UserError(
                    f"the mask {self.mask} is {picture.shape[1]} × {picture.shape[0]} pixels, "
                    f"and {name} is {width} × {height}",
                    "draw it on the picture itself: white where it is to be drawn anew, black where it is kept",
                )
            return np.asarray(picture.mean(2) >= 128)
        if self.box is not None:
            left, top, right, bottom = self.box
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                raise UserError(
                    f"--box {','.join(map(str, self.box))} is no box in {name} of {width} × {height} pixels",
                    f"for example --box 0,0,{width // 2},{height}: x0,y0,x1,y1, ends excluded",
                )
            gap[top:bottom, left:right] = True
            return gap
        places: dict[str | None, Any] = {
            "left": np.s_[:, : width // 2],
            "right": np.s_[:, width // 2 :],
            "top": np.s_[: height // 2],
            "bottom": np.s_[height // 2 :],
        }
        if self.half not in places:
            raise UserError(f"unknown half '{self.half}'", did_you_mean(str(self.half), HALVES, "halves"))
        gap[places[self.half]] = True
        return gap


def read_with_gap(path: Path, gap: Gap, shape: tuple[int, int, int], fit: str) -> tuple[Array, Array]:
    """A picture, and which of its pixels are kept, both fitted to a model in one way.

    Arguments:
        path: The picture's file.
        gap: What is drawn anew.
        shape: The model's (C, H, W).
        fit: The rule by which pictures become squares of the model's size.

    Returns:
        uint8 (H, W, C), and bool (H, W), true where it is kept.

    Raises:
        UserError: It is no picture, the rule or the gap does not fit it, or nothing is left to draw.
    """
    picture, _ = decode_picture(read_bytes(path, UNPACKED_BYTES), str(path))
    drawn = gap.of(picture.shape[0], picture.shape[1], str(path))
    image = fit_picture(picture, str(path), shape, fit)
    fitted = fit_picture((drawn * np.uint8(255))[..., None], str(path), (1, *shape[1:]), fit)
    known = fitted[..., 0] < 128
    if known.all():
        raise UserError(
            f"the mask leaves nothing of {path} to draw", "mark it in white, or use --box or --half"
        )
    return image, known


def inpaint(
    model: Autoencoder,
    image: Array,
    known: Array,
    bits: Array,
    recipe: Recipe,
    seed: int,
    resample: int = 1,
    batch_size: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> Array:
    """Draws of an image's unknown part; draw i depends on (seed, i), its bits and the known part alone.

    Arguments:
        model: The autoencoder, in evaluation mode.
        image: uint8 (H, W, C).
        known: bool (H, W), where it is kept.
        bits: uint8 (N, D), a code for each draw.
        recipe: How images are sampled.
        seed: Seed of all noise.
        resample: How often each step is taken; see :func:`~dmzcli.diffusion.repaint.repaint`.
        batch_size: Draws at a time; ``None`` for what suits the device.
        done: Told how many draws are finished.

    Returns:
        uint8 (N, H, W, C), equal to ``image`` where it is known.

    Raises:
        UserError: The bits do not fit the model, or its weights make no finite images.
    """
    sampler = recipe.create(model.config.diffusion)
    batch_size = batch_size or usual_batch(model)
    mask = torch.from_numpy(known).to(model.device)
    x0, results = to_unit(image[None], model.device), np.empty((len(bits), *image.shape), np.uint8)
    with torch.no_grad(), model.laid_out(recipe.precision):
        for first in range(0, len(bits), batch_size):
            part = slice(first, min(first + batch_size, len(bits)))
            indices = range(part.start, part.stop)
            noise, fresh = (
                ImageNoise(own, indices, model.shape, model.device)
                for own in (seed, derive("known pixels", seed))
            )
            codes = on_device(model, bits, part)
            denoiser = model.denoiser(codes, recipe.precision)
            x = repaint(sampler, denoiser, noise, x0.expand(len(codes), -1, -1, -1), mask, fresh, resample)
            check_finite(x, f"draws from number {first} on")
            results[part] = to_uint8(x)
            done(part.stop)
    return results


def nearest_codes(
    model: Autoencoder,
    image: Array,
    known: Array,
    codes: Array,
    recipe: Recipe,
    seed: int,
    batch_size: int | None = None,
) -> Array:
    """Of each draw's candidates the code whose decoded image is nearest to the known part, by its squared error.

    Arguments:
        model: The autoencoder, in evaluation mode.
        image, known: As for :func:`inpaint`.
        codes: uint8 (N, K, D), K candidates a draw.
        recipe: How they are decoded, each with its draw's noise.
        seed: Seed of that noise.
        batch_size: Images at a time; ``None`` for what suits the device.

    Returns:
        Positions of the chosen ones, int64 (N,).
    """
    count, candidates, dim = codes.shape
    if candidates == 1:
        return np.zeros(count, np.int64)
    decoded = decode(
        model,
        codes.reshape(-1, dim),
        recipe.create(model.config.diffusion),
        np.repeat(np.arange(count), candidates).tolist(),
        seed,
        batch_size or usual_batch(model),
        precision=recipe.precision,
    )
    error = np.square(decoded[:, known].astype(np.float64) - image[known]).sum((1, 2))
    return error.reshape(count, candidates).argmin(1)


def sheet_of(
    image: Array, known: Array, draws: Sequence[Array] | Array, name: str, columns: int = 8
) -> Array:
    """The image and what is known of it (the rest is gray), above the draws; uint8 (H', W', 3)."""
    masked = np.where(known[..., None], image, np.uint8(128))
    rows = [(name, np.stack([image, masked]))]
    for start in range(0, len(draws), columns):
        part = np.asarray(draws[start : start + columns])
        rows.append((f"draws {start} to {start + len(part) - 1}", part))
    return labelled_rows(rows, max(2, min(columns, len(draws))))
