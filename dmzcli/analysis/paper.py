"""The authors' protocol, under its own name: so that published numbers can be compared, without being believed.

M. Proszewska, N. Malkin, N. Siddharth (2025, https://arxiv.org/abs/2506.00136) measure their codes as InfoDiffusion
does (Y. Wang et al., 2023, https://arxiv.org/abs/2306.08757): the images of all splits are pooled, each is encoded
as in training, as the noisy soft code of a Gumbel-softmax, numbers are standardized, and a logistic regression is
fitted and tested in five folds; the score is the mean over the folds and its spread.

What is wrong with it: images that the encoder was trained on are tested on; noise of the code is in the score; and the
spread over folds, which share their training rows, is no interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmzcli.analysis.probes.heads.logistic import Logistic
from dmzcli.analysis.probes.metrics import quality
from dmzcli.analysis.probes.targets import Target
from dmzcli.errors import UserError
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import stream

Array = np.ndarray
FOLDS = 5
INVERSE_STRENGTH = 1.0
_LEAST = 2.0**-11
"""Probabilities are kept as float16; their logarithms are taken of what this keeps from 0 and 1."""


@dataclass(frozen=True)
class PaperScore:
    """The score of a target by the authors' protocol.

    Attributes:
        target: ``labels`` or ``attributes``.
        measure: ``accuracy`` or ``AUROC``.
        mean, spread: Of the folds, and their standard deviation.
        folds: One value each.
        rows: Pooled rows.
    """

    target: str
    measure: str
    mean: float
    spread: float
    folds: tuple[float, ...]
    rows: int

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "folds": list(self.folds)}


def check_bits(cardinalities: Array) -> None:
    """Raises UserError unless every variable of a table's codes is one bit, as the authors' are."""
    most = int(np.max(cardinalities, initial=2))
    if most > 2:
        raise UserError(
            f"the authors' protocol is of single bits, and the table's codes are variables of {most} values",
            "leave --protocol out",
        )


def training_codes(probs: Array, temperature: float, seed: int) -> Array:
    """Noisy soft codes as in training: σ((logit π + g₁ − g₀) / τ) with Gumbel g, float32 (N, D).

    Arguments:
        probs: π, q(z = 1 | x), (N, D).
        temperature: τ, the model's.
        seed: Seed of the noise.
    """
    inside = np.clip(probs.astype(np.float32), _LEAST, 1 - _LEAST)
    # The difference of two Gumbel numbers is logistic.
    noise = stream("paper codes", seed).logistic(size=inside.shape).astype(np.float32)
    return np.asarray(1 / (1 + np.exp(-(np.log(inside / (1 - inside)) + noise) / temperature)))


def paper_scores(
    probs: Array | None, targets: list[Target], temperature: float, seed: int = 0, talk: Talk | None = None
) -> list[PaperScore]:
    """Scores of all targets by the authors' protocol.

    Arguments:
        probs: q(z = 1 | x) of every row, of all splits.
        targets: With values of every row.
        temperature: Of the Gumbel-softmax.
        seed: Seed of noise and folds.
        talk: Receiver of progress.

    Raises:
        UserError: The table has no probabilities, or fewer rows than folds.
    """
    talk = talk or Silence()
    if probs is None:
        raise UserError("the bit table has no probabilities", "encode anew with dmz encode")
    if len(probs) < FOLDS:
        raise UserError(f"{len(probs)} rows cannot be split into {FOLDS} folds", "probe a larger table")
    codes = training_codes(probs, temperature, seed)
    folds = np.array_split(stream("paper folds", seed).permutation(len(codes)), FOLDS)
    scores: list[PaperScore] = []
    with talk.task("the paper's protocol", len(targets) * FOLDS) as advance:
        for target in targets:
            values = []
            for number, test in enumerate(folds):
                advance(len(scores) * FOLDS + number, target.name)
                train = np.concatenate([fold for other, fold in enumerate(folds) if other != number])
                spread = np.maximum(codes[train].std(0), 1e-6)
                candidate = next(
                    Logistic((INVERSE_STRENGTH,)).candidates(
                        codes[train] / spread, target.values[train], target.exclusive, seed
                    )
                )
                predicted = candidate.predict(codes[test] / spread)
                values.append(quality(predicted, target.values[test], target.exclusive))
            mean, deviation = float(np.mean(values)), float(np.std(values))
            scores.append(PaperScore(target.name, target.measure, mean, deviation, tuple(values), len(codes)))
    return scores
