r"""Timesteps for one network: a search over them, by any criterion, and by the solver's error.

The search moves one timestep at a time by a stride, keeps what is better, and halves the stride when nothing is. It
starts at the best registered spacing. What better means is a criterion's own:

``score``
    Nearer to real images: :mod:`dmzcli.studies.step_tuning`.
``error``
    Nearer to the solution of many steps. A deterministic sampler solves an ordinary differential equation from x_T to
    the image. For fixed noise and bits, and timesteps τ = (τ_1 < … < τ_T), the error is the mean over images and pixels
    of (x̂(τ) − x*)², where x* is the image of the same noise in :data:`MANY` steps, and pixels are in [−1, 1]. No
    features are needed. It is not the score: on four runs it fell by 39% to 67%, while a Fréchet distance rose, stood
    still, or fell.

References:
    D. Watson, J. Ho, M. Norouzi, W. Chan, "Learning to Efficiently Sample from Diffusion Probabilistic Models", 2021,
        arXiv 2106.03802: timesteps chosen for a trained network.
    D. Watson, W. Chan, J. Ho, M. Norouzi, "Learning Fast Samplers for Diffusion Models by Differentiating Through
        Sample Quality", 2022, arXiv 2202.05830: a score of images as the criterion.
    A. Sabour, S. Fidler, K. Kreis, "Align Your Steps: Optimizing Sampling Schedules in Diffusion Models", 2024,
        arXiv 2404.14507: solvers' timesteps by a bound of their error, coarse to fine.
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
from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
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
        by: The criterion: ``score`` or ``error``.
        value: What the criterion says of them; lower is better.
        others: The same of each registered spacing that has T timesteps.
        how: What else the result depends on, and how it was checked.
        tried: Sets of timesteps that the criterion has judged.
        seconds: What the search took.
    """

    recipe: Recipe
    by: str
    value: float
    others: dict[str, float]
    how: dict[str, Any]
    tried: int
    seconds: float

    def facts(self) -> dict[str, Any]:
        """As JSON, and as ``tuned-steps.json`` holds it."""
        assert self.recipe.timesteps is not None
        found = {"timesteps": list(self.recipe.timesteps), "by": self.by}
        values = {self.by: self.value, f"{self.by}s": self.others}
        return {
            **key(self.recipe),
            **found,
            **values,
            **self.how,
            "tried": self.tried,
            "seconds": round(self.seconds, 1),
        }

    def row(self) -> dict[str, str]:
        """As a row for a person."""
        best = min(self.others, key=self.others.__getitem__)
        taken = self.how.get("taken", "tuned")
        return {
            "sampler": self.recipe.sampler,
            "T": str(self.recipe.steps),
            "timesteps": ", ".join(map(str, self.recipe.timesteps or ())),
            "found by": self.by if taken == "tuned" else f"{self.by}: {taken} is as good",
            self.by: f"{self.value:.3g}",
            "best spacing": f"{best}: {self.others[best]:.3g}",
        }


def tune(
    model: Autoencoder,
    bits: Array | None,
    count: int,
    recipe: Recipe,
    seed: int = 0,
    batch_size: int | None = None,
    talk: Talk | None = None,
) -> Tuned:
    """Searches for the T timesteps of a recipe by the solver's error.

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
    starts = registered(diffusion, recipe.steps)
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
        best = min(starts.values(), key=error)
        found = search(lambda one, other: error(one) < error(other), best, diffusion.timesteps)
        advance(1, f"{len(errors)} tried")
    how = {"many": MANY, "count": count, "seed": seed}
    tuned = replace(recipe, spacing="tuned", timesteps=found, tuned_by="error")
    return Tuned(tuned, "error", error(found), others, how, len(errors), monotonic() - started)


def tune_run(
    run: Run, recipes: Sequence[Recipe], tune: Callable[[Recipe], Tuned], talk: Talk | None = None
) -> list[Tuned]:
    """Tunes a run for several recipes, one after the other, and keeps each result in its ``tuned-steps.json``.

    Arguments:
        run: The run.
        recipes: Sampler, T, threshold and precision.
        tune: Tunes one of them.
        talk: Receives progress.

    Raises:
        UserError: As :func:`check`; or another command writes the file.
    """
    talk, results = talk or Silence(), []
    for recipe in recipes:
        check(recipe, run.config.diffusion.timesteps)
    for recipe in recipes:
        tuned = tune(recipe)
        with hold(run.tuned, patience=WHILE):
            store(run, tuned.facts())
        talk.say(
            f"{recipe.sampler} T={recipe.steps}: {list(tuned.recipe.timesteps or ())} after {duration(tuned.seconds)}"
        )
        results.append(tuned)
    return results


def valid_bits(model: Autoencoder, dataset: Dataset, count: int) -> Array | None:
    """The most probable bits of real images of the valid split, evenly spread: what a search decodes.

    Arguments:
        model: The model.
        dataset: Of the run.
        count: Number of images; fewer where there are fewer.

    Returns:
        uint8 (N, D); ``None`` for a model without a latent.

    Raises:
        UserError: There are no such images, or they do not fit the model.
    """
    if not model.dim:
        return None
    rows = spread(dataset.rows("valid"), count)
    if not len(rows):
        raise UserError(
            f"{dataset.name} has no valid images, whose bits the search decodes",
            "use a spacing that needs no search, such as --spacing trailing",
        )
    model.check_images(dataset.images[rows], "take the dataset that the run was trained on")
    return bits_of(model, dataset.images[rows])


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


def search(
    better: Callable[[Timesteps, Timesteps], bool], start: Timesteps, total: int, finest: float = FINEST
) -> Timesteps:
    """Ascending timesteps in [0, ``total``) that no single move of a stride makes better.

    Arguments:
        better: Whether the first timesteps are better than the second.
        start: Where to begin.
        total: N, the number of the process's timesteps.
        finest: The smallest stride, as a share of N.
    """
    best, stride = start, max(1, total // 8)
    while True:
        moved = False
        for i in reversed(range(len(start))):
            for step in (stride, -stride):
                other = (*best[:i], best[i] + step, *best[i + 1 :])
                inside = 0 <= other[0] and other[-1] < total
                if inside and all(a < b for a, b in pairwise(other)) and better(other, best):
                    best, moved = other, True
                    break
        if not moved:
            if stride <= max(1, total * finest):
                return best
            stride = max(1, stride // 2)


def registered(diffusion: DiffusionConfig, steps: int) -> dict[str, Timesteps]:
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
