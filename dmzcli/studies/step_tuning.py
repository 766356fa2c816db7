r"""Timesteps for one network by the score itself: a search for those whose images are nearest to a split's.

For timesteps τ and a draw of codes and noise, s(τ) is the Fréchet distance of the images x̂(τ) from a split, in the
features of a frozen network. All τ share codes and noise, so that differences are paired: a move counts where it lowers
s by more than the jackknife's standard error of the difference.

The lowest of many values is lower than its τ deserves. So the search does not judge itself: the timesteps that it ends
with, and the spacings that it does not tell from the best one, are scored again on a second draw, of other codes and
other noise, and the lowest there is taken. Timesteps that are worse there than a spacing are never stored: those of the
spacing are, and the entry says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np

from dmzcli.data import Dataset
from dmzcli.diffusion.names import TUNED
from dmzcli.evaluation.features import Extractor, reference_of
from dmzcli.evaluation.scores import Score, difference, frechet
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.tuning import Timesteps, Tuned, check, registered, search
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import derive

Array = np.ndarray
FINEST = 1 / 32
"""The smallest stride, as a share of all timesteps: shorter moves change a score by less than its noise."""
BEYOND = 1.0
"""Standard errors of the difference by which a move must lower the score."""


@dataclass(frozen=True, eq=False)
class ScoreSearch:
    """What a search by the score needs.

    Attributes:
        model: The autoencoder, in evaluation mode.
        codes: uint8 (N, D), best of real images; every other one is of the search, the rest of the confirmation, in
            turn where there are too few. ``None`` for a model without a latent.
        count: Images of a score.
        dataset, split: The reference.
        extractor: The features.
        seed: Seed of the noise, which is that of no sampling run.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Receives progress.
    """

    model: Autoencoder
    codes: Array | None
    count: int
    dataset: Dataset
    split: str
    extractor: Extractor
    seed: int = 0
    batch_size: int | None = None
    talk: Talk | None = None

    def tune(self, recipe: Recipe) -> Tuned:
        """Searches for the T timesteps of a recipe.

        Arguments:
            recipe: Sampler, T, threshold and precision.

        Raises:
            UserError: The sampler adds noise, or T is 1 or does not fit; the split has too few images.
        """
        diffusion, talk, started = self.model.config.diffusion, self.talk or Silence(), monotonic()
        check(recipe, diffusion.timesteps)
        starts = registered(diffusion, recipe.steps)
        with talk.task(f"timesteps of {recipe.sampler} T={recipe.steps}", 1) as advance:
            tried: list[float] = []

            def note(score: Score) -> None:
                tried.append(score.value)
                advance(0, f"{len(tried)} tried, {score.metric} {min(tried):.4g}")

            score = self._scorer(recipe, 0, note)
            others = {name: score(timesteps) for name, timesteps in starts.items()}
            best = min(others, key=lambda name: others[name].value)

            def better(one: Timesteps, other: Timesteps) -> bool:
                gap = difference(score(one), score(other))
                return gap.value < -BEYOND * gap.error

            found = search(better, starts[best], diffusion.timesteps, FINEST)
            rivals = {TUNED: found} | {
                name: starts[name] for name in starts if not _worse(others[name], others[best])
            }
            count = len(tried)
            confirm = self._scorer(recipe, 1, note)
            confirmed = {name: confirm(timesteps) for name, timesteps in rivals.items()}
            taken = min(confirmed, key=lambda name: confirmed[name].value)
            advance(1, f"{count} tried")
        how = self._how(taken, confirmed)
        chosen = replace(recipe, spacing=TUNED, timesteps=rivals[taken], tuned_by="score")
        values = {name: value.value for name, value in others.items()}
        return Tuned(chosen, "score", score(rivals[taken]).value, values, how, count, monotonic() - started)

    def _how(self, taken: str, confirmed: dict[str, Score]) -> dict[str, Any]:
        """What else the entry holds: the second draw's scores, and the difference to its best spacing."""
        spacing = min((name for name in confirmed if name != TUNED), key=lambda name: confirmed[name].value)
        gap = difference(confirmed[TUNED], confirmed[spacing])
        return {
            "taken": taken,
            "confirmed": {name: score.value for name, score in confirmed.items()},
            "beyond_spacing": {"spacing": spacing, "value": gap.value, "error": gap.error},
            "metric": self.extractor.metric("fid"),
            "extractor": self.extractor.sha256,
            "reference": {"dataset": self.dataset.identity, "split": self.split},
            "count": self.count,
            "seed": self.seed,
        }

    def _scorer(
        self, recipe: Recipe, draw: int, note: Callable[[Score], None]
    ) -> Callable[[Timesteps], Score]:
        """Timesteps → their score on a draw of codes and noise; computed once for each."""
        noise = derive("tuning", self.seed, draw)
        codes = self.codes
        if codes is not None:
            own = codes[draw::2] if len(codes) > 1 else codes
            codes = own[np.arange(self.count) % len(own)]
        batch = self.batch_size or usual_batch(self.model)
        reference = reference_of(self.extractor, self.dataset, self.split, talk=self.talk).moments
        known: dict[Timesteps, Score] = {}

        def score(timesteps: Timesteps) -> Score:
            if timesteps not in known:
                sampler = replace(recipe, timesteps=timesteps).create(self.model.config.diffusion)
                images = decode(
                    self.model, codes, sampler, range(self.count), noise, batch, precision=recipe.precision
                )
                features, _ = self.extractor(images)
                known[timesteps] = frechet(features, reference, self.extractor.metric("fid"))
                note(known[timesteps])
            return known[timesteps]

        return score


def _worse(one: Score, other: Score) -> bool:
    """Whether one score is above the other, beyond the 95% interval of the difference."""
    gap = difference(one, other)
    return gap.value > 1.96 * gap.error
