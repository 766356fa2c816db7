"""Linear probes of labels: how much of the classes a representation makes linearly readable.

Multinomial logistic regression p(y | r) ∝ exp(w_y · r + b_y), fitted on the train split, its L2 strength chosen on
the valid split, its accuracy reported on the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmzcli.analysis.probes.heads.base import choose
from dmzcli.analysis.probes.heads.logistic import INVERSE_STRENGTHS, Logistic
from dmzcli.analysis.probes.metrics import hits
from dmzcli.analysis.probes.protocol import Score
from dmzcli.analysis.probes.targets import check_splits
from dmzcli.errors import UserError

Array = np.ndarray


@dataclass(frozen=True)
class Probe:
    """One probe's result.

    Attributes:
        name: Name of the representation.
        features: Width of the representation.
        inverse_strength: C of the chosen L2 penalty ‖w‖² / 2C.
        converged: Whether the solver met its tolerance within 500 iterations.
        valid_accuracy, test_accuracy: On the splits of these names.
        confusion: Counts (true class, predicted class) on test, int64.
    """

    name: str
    features: int
    inverse_strength: float
    converged: bool
    valid_accuracy: float
    test_accuracy: float
    confusion: Array

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "confusion": self.confusion.tolist()}

    @classmethod
    def of(cls, score: Score) -> Probe:
        """The same of a score of the logistic head for labels."""
        confusion = np.array(score.details["confusion"])
        strength = float(score.settings["C"])
        return cls(
            score.representation,
            score.features,
            strength,
            score.converged,
            score.valid,
            score.test,
            confusion,
        )


def probe(name: str, features: Array, labels: Array, rows: dict[str, Array], classes: int) -> Probe:
    """Fits one probe.

    Arguments:
        name: Name of the representation.
        features: float32 (N, F).
        labels: int64 (N,).
        rows: Positions of ``train``, ``valid`` and ``test``.
        classes: Number of classes.

    Raises:
        UserError: A split is empty, or train has a single class.
    """
    from sklearn.metrics import confusion_matrix

    check_splits(rows)
    if len(np.unique(labels[rows["train"]])) < 2:
        raise UserError("all training images have one label", "a probe needs at least two classes")
    values = np.eye(classes, dtype=np.uint8)[labels]
    train, valid = ((features[rows[split]], values[rows[split]]) for split in ("train", "valid"))
    chosen = choose(Logistic(INVERSE_STRENGTHS), train, valid, features[rows["test"]], exclusive=True)
    truth = values[rows["test"]]
    return Probe(
        name=name,
        features=features.shape[1],
        inverse_strength=chosen.settings["C"],
        converged=chosen.converged,
        valid_accuracy=chosen.valid,
        test_accuracy=float(hits(chosen.scores, truth).mean()),
        confusion=confusion_matrix(truth.argmax(1), chosen.scores.argmax(1), labels=np.arange(classes)),
    )
