"""Linear probes: how much of the labels a representation makes linearly readable.

Multinomial logistic regression p(y | r) ∝ exp(w_y · r + b_y), fitted on the train split, its L2 strength chosen on
the valid split, its accuracy reported on the test split.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmzcli.errors import UserError

Array = np.ndarray
INVERSE_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
MAX_ITERATIONS = 500


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
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix

    for split in ("train", "valid", "test"):
        if not len(rows[split]):
            raise UserError(
                f"the split '{split}' is empty", "a probe is fitted on train, chosen on valid, tested on test"
            )
    if len(np.unique(labels[rows["train"]])) < 2:
        raise UserError("all training images have one label", "a probe needs at least two classes")
    # Centring changes no probe, since the intercept is free, but the solver needs far fewer iterations; so does
    # starting from the solution of the last, stronger penalty.
    features = features - features[rows["train"]].mean(0)
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    best, best_accuracy, converged = None, -1.0, True
    for strength in INVERSE_STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged` instead
            model.set_params(C=strength).fit(features[rows["train"]], labels[rows["train"]])
        accuracy = model.score(features[rows["valid"]], labels[rows["valid"]])
        if accuracy > best_accuracy:
            best, best_accuracy = copy.deepcopy(model), accuracy
            converged = bool(model.n_iter_.max() < MAX_ITERATIONS)
    assert best is not None
    predicted = best.predict(features[rows["test"]])
    truth = labels[rows["test"]]
    return Probe(
        name=name,
        features=features.shape[1],
        inverse_strength=float(best.C),
        converged=converged,
        valid_accuracy=float(best_accuracy),
        test_accuracy=float((predicted == truth).mean()),
        confusion=confusion_matrix(truth, predicted, labels=np.arange(classes)),
    )
