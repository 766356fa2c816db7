r"""Timesteps for one network: a search for those whose solution is nearest to that of many steps.

A deterministic sampler solves an ordinary differential equation from x_T to the image. For fixed noise and bits, and
timesteps τ = (τ_1 < … < τ_T), the error is the mean over images and pixels of (x̂(τ) − x*)², where x* is the image of
the same noise in :data:`MANY` steps, and pixels are in [−1, 1]. It is computed and not estimated from a derivative, so
that any sampler and any network can be tuned; no features are needed.
It is not the score: on two runs it fell by 39% to 59%, while a Fréchet distance rose or stood still.

The search starts at the best registered spacing, and so is never worse than any on its own images. It moves one
timestep at a time by a stride, keeps what is nearer, and halves the stride when nothing is.

References:
    D. Watson, J. Ho, M. Norouzi, W. Chan, "Learning to Efficiently Sample from Diffusion Probabilistic Models", 2021,
        arXiv 2106.03802: timesteps chosen for a trained network.
    A. Sabour, S. Fidler, K. Kreis, "Align Your Steps: Optimizing Sampling Schedules in Diffusion Models", 2024,
        arXiv 2404.14507: the same for solvers, by a bound of their error, coarse to fine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.codes.encode import bits_of
from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.samplers import create
from dmzcli.diffusion.spacings import NoStride, spaced_timesteps, spacings
from dmzcli.errors import UserError
from dmzcli.generation.decode import usual_batch
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.tuned import check_deterministic, key, store
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.progress import Silence, Talk, duration
from dmzcli.system.randomness import ImageNoise

Array = np.ndarray
MANY = 64
"""Steps of the solution that counts as exact."""
FINEST = 1 / 256
"""The smallest stride, as a share of all timesteps."""
Timesteps = tuple[int, ...]


@dataclass(frozen=True)
class Tuned:
    """Timesteps, and how they were found.

    Attributes:
        recipe: The recipe, with spacing ``tuned`` and its timesteps.
        error: Their mean squared error.
        others: That of each registered spacing that has T timesteps.
        count: Images of the search.
        seed: Seed of their noise.
        tried: Sets of timesteps whose error was computed.
        seconds: What the search took.
    """

    recipe: Recipe
    error: float
    others: dict[str, float]
    count: int
    seed: int
    tried: int
    seconds: float

    def facts(self) -> dict[str, Any]:
        """As JSON, and as ``tuned-steps.json`` holds it."""
        assert self.recipe.timesteps is not None
        found = {"timesteps": list(self.recipe.timesteps), "error": self.error, "errors": self.others}
        how = {"many": MANY, "count": self.count, "seed": self.seed, "tried": self.tried}
        return {**key(self.recipe), **found, **how, "seconds": round(self.seconds, 1)}


def tune(
    model: Autoencoder,
    bits: Array | None,
    count: int,
    recipe: Recipe,
    seed: int = 0,
    batch_size: int | None = None,
    talk: Talk | None = None,
) -> Tuned:
    """Searches for the T timesteps of a recipe.

    Arguments:
        model: The autoencoder, in evaluation mode.
        bits: uint8 (count, D), best of real images; ``None`` for a model without a latent.
        count: Number of images.
        recipe: Sampler, T, threshold and precision.
        seed: Seed of the noise.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Receives progress.

    Raises:
        UserError: The sampler adds noise, or T is 1 or does not fit.
    """
    check(recipe, model.config.diffusion.timesteps)
    talk, started, diffusion = talk or Silence(), monotonic(), model.config.diffusion
    starts = _starts(diffusion, recipe.steps)
    batch = batch_size or usual_batch(model)
    solve = _solver(model, bits, count, recipe, seed, batch)
    many = min(MANY, diffusion.timesteps)
    with talk.task(f"timesteps of {recipe.sampler} T={recipe.steps}", 1) as advance:
        exact = solve(tuple(spaced_timesteps(diffusion, many, "trailing").tolist()))
        errors: dict[Timesteps, float] = {}

        def error(timesteps: Timesteps) -> float:
            if timesteps not in errors:
                errors[timesteps] = float((solve(timesteps) - exact).square().mean())
                advance(0, f"{len(errors)} tried, error {min(errors.values()):.3g}")
            return errors[timesteps]

        others = {name: error(timesteps) for name, timesteps in starts.items()}
        found = search(error, min(starts.values(), key=error), diffusion.timesteps)
        advance(1, f"{len(errors)} tried")
    tuned = replace(recipe, spacing="tuned", timesteps=found)
    return Tuned(tuned, error(found), others, count, seed, len(errors), monotonic() - started)


def tune_run(
    run: Run,
    model: Autoencoder,
    images: Array | None,
    count: int,
    recipes: Sequence[Recipe],
    seed: int = 0,
    batch_size: int | None = None,
    talk: Talk | None = None,
) -> list[Tuned]:
    """Tunes a run for several recipes, one after the other, and keeps each result in its ``tuned-steps.json``.

    Arguments:
        run: The run.
        model: Its model.
        images: Real images, uint8 (count, H, W, C), whose most probable bits are decoded; ``None`` without a latent.
        count: Number of images.
        recipes: Sampler, T, threshold and precision.
        seed, batch_size, talk: As for :func:`tune`.

    Raises:
        UserError: As :func:`tune`; the images do not fit the model, or another command writes the file.
    """
    talk, results = talk or Silence(), []
    for recipe in recipes:
        check(recipe, model.config.diffusion.timesteps)
    if images is not None:
        model.check_images(images, "take the dataset that the run was trained on")
    bits = None if images is None else bits_of(model, images)
    for recipe in recipes:
        tuned = tune(model, bits, count, recipe, seed, batch_size, talk)
        with hold(run.tuned, patience=WHILE):
            store(run, tuned.facts())
        talk.say(
            f"{recipe.sampler} T={recipe.steps}: {list(tuned.recipe.timesteps or ())} after {duration(tuned.seconds)}"
        )
        results.append(tuned)
    return results


def check(recipe: Recipe, total: int) -> None:
    """Raises UserError where there is nothing to tune: the sampler adds noise, or T is 1 or above ``total``."""
    check_deterministic(recipe)
    if recipe.steps < 2:
        raise UserError(
            "a single step starts at the noise: there is nothing to tune", "use --steps 2 or more"
        )
    if recipe.steps > total:
        raise UserError(
            f"--steps {recipe.steps} does not fit a model of {total} timesteps", f"choose 2 to {total}"
        )


def search(error: Callable[[Timesteps], float], start: Timesteps, total: int) -> Timesteps:
    """Ascending timesteps in [0, ``total``) whose error no single move of a stride makes smaller.

    Arguments:
        error: Of timesteps.
        start: Where to begin.
        total: N, the number of the process's timesteps.
    """
    best, stride = start, max(1, total // 8)
    while True:
        moved = False
        for i in reversed(range(len(start))):
            for step in (stride, -stride):
                other = (*best[:i], best[i] + step, *best[i + 1 :])
                inside = 0 <= other[0] and other[-1] < total
                if inside and all(a < b for a, b in pairwise(other)):
                    if error(other) < error(best):
                        best, moved = other, True
                        break
        if not moved:
            if stride <= max(1, total * FINEST):
                return best
            stride = max(1, stride // 2)


def _starts(diffusion: DiffusionConfig, steps: int) -> dict[str, Timesteps]:
    """The timesteps of every registered spacing that has this many."""
    starts = {}
    for name in spacings():
        try:
            starts[name] = tuple(spaced_timesteps(diffusion, steps, name).tolist())
        except NoStride:
            continue
    return starts


def _solver(
    model: Autoencoder, bits: Array | None, count: int, recipe: Recipe, seed: int, batch: int
) -> Callable[[Timesteps], Tensor]:
    """Timesteps → the images, float32 (count, C, H, W) in [−1, 1]; always of the same noise and bits."""
    parts = [range(first, min(first + batch, count)) for first in range(0, count, batch)]
    noises = [ImageNoise(seed, part, model.shape, model.device)() for part in parts]
    codes = [None if bits is None else torch.from_numpy(bits[part.start : part.stop]) for part in parts]
    codes = [None if rows is None else rows.to(model.device) for rows in codes]

    def solve(timesteps: Timesteps) -> Tensor:
        sampler = create(
            recipe.sampler,
            model.config.diffusion,
            len(timesteps),
            timesteps,
            threshold=recipe.threshold,
            percentile=recipe.percentile,
        )
        images = []
        with torch.no_grad(), model.laid_out(recipe.precision):
            for rows, noise in zip(codes, noises, strict=True):
                denoiser = model.denoiser(rows, recipe.precision)
                images.append(sampler.sample(denoiser, lambda: torch.empty(0), noise).clamp(-1, 1))
        return torch.cat(images).float()

    return solve
