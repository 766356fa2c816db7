"""The contract of probe heads: scores s(r) ∈ R^K of a representation r, of which the largest, or each alone, decides.

A head is fitted on train and offers candidates, one per setting that has to be chosen. :func:`choose` takes the one
that is best on valid; the rows of test are not in its hands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dmzcli.analysis.probes.metrics import quality

Array = np.ndarray
Predict = Callable[[Array], Array]
"""Features (M, F) to scores (M, K)."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One fit.

    Attributes:
        settings: What distinguishes it, for the table.
        predict: Its scores; valid as long as no later candidate was asked for.
        converged: Whether its solver met its tolerance.
    """

    settings: dict[str, Any]
    predict: Predict
    converged: bool = True


class Head(ABC):
    """A kind of classifier on top of a representation."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def candidates(self, features: Array, values: Array, exclusive: bool, seed: int) -> Iterator[Candidate]:
        """Fits, one after the other.

        Arguments:
            features: Those of train, float32 (N, F).
            values: 0 and 1, uint8 (N, K): a column per class or per attribute.
            exclusive: Whether the columns are classes, of which each row has one.
            seed: Seed of whatever is random.
        """


@dataclass(frozen=True, eq=False)
class Chosen:
    """The candidate that was best on valid.

    Attributes:
        settings, converged: As the candidate's.
        valid: Its quality on valid: accuracy, or mean AUROC.
        scores: Its scores of the test rows, (M, K).
    """

    settings: dict[str, Any]
    converged: bool
    valid: float
    scores: Array


def choose(
    head: Head,
    train: tuple[Array, Array],
    valid: tuple[Array, Array],
    test: Array,
    exclusive: bool,
    seed: int = 0,
) -> Chosen:
    """Fits a head on train and chooses on valid; ties go to the earlier candidate.

    Arguments:
        head: The head.
        train, valid: Features (N, F) and values (N, K).
        test: Features (M, F): no value of a test row comes in here.
        exclusive: Whether the columns are classes.
        seed: Seed of whatever is random.
    """
    best: Chosen | None = None
    for candidate in head.candidates(*train, exclusive, seed):
        score = quality(candidate.predict(valid[0]), valid[1], exclusive)
        if best is None or score > best.valid:
            best = Chosen(candidate.settings, candidate.converged, score, candidate.predict(test))
    assert best is not None, f"{head.name} has no candidates"
    return best
