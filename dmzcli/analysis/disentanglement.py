r"""Disentanglement: does one number of a representation tell one factor, and one factor live in one number?

**DCI** (C. Eastwood, C. Williams: A Framework for the Quantitative Evaluation of Disentangled Representations, 2018,
https://openreview.net/forum?id=By-7dz-AZ). R_ij ≥ 0 is how much a classifier of factor j leans on number i: the sum
over classes of |weight| times the number's spread, of logistic regression with an L1 penalty. With
P_ij = R_ij / Σ_j R_ij, disentanglement is Σ_i ρ_i (1 − H_F(P_i·)), ρ_i the share of number i in Σ R; completeness is
the same by factors, with every factor alike; informativeness is the mean test accuracy.

**TAD**, the Total AUROC Difference (E. Yeats, F. Liu, D. Womble, H. Li: NashAE, 2022, https://arxiv.org/abs/2209.10677):
A_ij is the AUROC of number i by itself for attribute j, or 1 − it where that is more. An attribute is captured if its
best number reaches 0.75 and no other attribute tells more than a fifth of its entropy; TAD is the sum, over captured
attributes, of the best less the second best.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np

from dmzcli.analysis.probes.targets import SPLITS
from dmzcli.codes.table import BitTable
from dmzcli.data.dataset import spread
from dmzcli.errors import UserError

Array = np.ndarray
CAPTURED, SHARED = 0.75, 0.2
"""Least AUROC of a captured attribute, and largest share of its entropy that another one tells."""
INVERSE_STRENGTHS = (0.01, 0.1, 1.0)
FIT_ROWS = 4000
"""Most training rows of DCI's classifiers, evenly spread."""


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor: its name and the level of every row, int64 (N,)."""

    name: str
    levels: Array


def factors_of(table: BitTable) -> list[Factor]:
    """The factors that a table tells: its class, and its attributes.

    Attributes named ``factor=level``, of which every row has exactly one, are one factor; any other attribute is one by
    itself.
    """
    factors = [] if table.labels is None else [Factor("class", table.labels.astype(np.int64))]
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(table.attribute_names):
        groups.setdefault(name.partition("=")[0] if "=" in name else name, []).append(column)
    for name, columns in groups.items():
        assert table.attributes is not None
        values = table.attributes[:, columns]
        if len(columns) > 1 and (values.sum(1) == 1).all():
            factors.append(Factor(name, values.argmax(1)))
        else:
            factors += [
                Factor(table.attribute_names[column], table.attributes[:, column].astype(np.int64))
                for column in columns
            ]
    return factors


@dataclass(frozen=True, eq=False)
class Dci:
    """DCI of a representation.

    Attributes:
        disentanglement, completeness, informativeness: 0 to 1.
        accuracy: On test, by factor.
        importance: R, float64 (F, factors).
    """

    disentanglement: float
    completeness: float
    informativeness: float
    accuracy: dict[str, float]
    importance: Array

    def facts(self) -> dict[str, Any]:
        """As JSON, without the matrix."""
        return {name: value for name, value in vars(self).items() if name != "importance"}


def dci(features: Array, factors: list[Factor], rows: dict[str, Array]) -> Dci:
    """DCI: classifiers fitted on train, their strength chosen on valid, accuracy on test.

    Arguments:
        features: float32 (N, F).
        factors: At least two; one that has a single level in train is left out.
        rows: Positions of the splits.

    Raises:
        UserError: Fewer than two factors vary.
    """
    train = spread(rows["train"], FIT_ROWS)
    varied = varied_factors(factors, train)
    importance, accuracy = [], {}
    for factor in varied:
        weights, right = _lasso(features, factor.levels, {**rows, "train": train})
        importance.append(weights)
        accuracy[factor.name] = right
    matrix = np.stack(importance, axis=1)
    return Dci(*scores_of(matrix), float(np.mean(list(accuracy.values()))), accuracy, matrix)


def varied_factors(factors: list[Factor], rows: Array) -> list[Factor]:
    """The factors that have several levels in some rows.

    Raises:
        UserError: They are fewer than two.
    """
    varied = [factor for factor in factors if len(np.unique(factor.levels[rows])) > 1]
    if len(varied) < 2:
        raise UserError(
            f"disentanglement needs two factors that vary, and the bit table has {len(varied)}",
            "probe a table with attributes, such as one of the dataset shapes",
        )
    return varied


def scores_of(importance: Array) -> tuple[float, float]:
    """Disentanglement and completeness of an importance matrix (F, factors)."""
    total = importance.sum()
    by_number = 1 - _entropy(importance, axis=1)
    by_factor = 1 - _entropy(importance, axis=0)
    weight = importance.sum(1) / total if total else np.zeros(len(importance))
    return float((weight * by_number).sum()), float(by_factor[importance.sum(0) > 0].mean()) if total else 0.0


def _entropy(importance: Array, axis: int) -> Array:
    """Entropies of the normalized rows (axis 1) or columns (axis 0), in units of their largest."""
    count = importance.shape[axis]
    share = importance / np.maximum(importance.sum(axis, keepdims=True), 1e-12)
    logs = np.log(np.where(share > 0, share, 1))
    return np.asarray(-(share * logs).sum(axis) / np.log(max(count, 2)))


def _lasso(features: Array, levels: Array, rows: dict[str, Array]) -> tuple[Array, float]:
    """Importance of each number (F,), and test accuracy, of the strength that is best on valid."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    # How an L1 penalty is asked for differs between versions of scikit-learn.
    renamed = signature(LogisticRegression).parameters["penalty"].default == "deprecated"
    lasso: dict[str, Any] = {"l1_ratio": 1.0} if renamed else {"penalty": "l1"}
    deviation = features[rows["train"]].std(0)
    best: tuple[float, Array, float] | None = None
    for strength in INVERSE_STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            one = LogisticRegression(C=strength, solver="liblinear", max_iter=100, random_state=0, **lasso)
            model = OneVsRestClassifier(one).fit(features[rows["train"]], levels[rows["train"]])
        valid, test = (
            float((model.predict(features[rows[split]]) == levels[rows[split]]).mean())
            for split in ("valid", "test")
        )
        if best is None or valid > best[0]:
            weights = np.abs(np.concatenate([fit.coef_ for fit in model.estimators_])).sum(0)
            best = valid, weights * deviation, test
    assert best is not None
    return best[1].astype(np.float64), best[2]


@dataclass(frozen=True)
class Tad:
    """TAD of a representation.

    Attributes:
        total: The sum over captured attributes.
        captured: The attributes' differences by name.
        auroc: The best AUROC of every attribute by a single number.
    """

    total: float
    captured: dict[str, float]
    auroc: dict[str, float]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return dict(vars(self))


def tad(features: Array, attributes: Array, names: tuple[str, ...]) -> Tad:
    """TAD on rows: nothing is fitted.

    Arguments:
        features: (M, F).
        attributes: 0 and 1, each with both values, (M, A).
        names: The A names.
    """
    area = single_aurocs(features, attributes)
    order = np.sort(area, axis=0)
    best, second = order[-1], order[-2] if len(order) > 1 else np.full(len(names), 0.5)
    own = shared_entropy(attributes) <= SHARED
    captured = {
        name: float(best[k] - second[k]) for k, name in enumerate(names) if best[k] >= CAPTURED and own[k]
    }
    return Tad(float(sum(captured.values())), captured, dict(zip(names, best.tolist(), strict=True)))


def single_aurocs(features: Array, attributes: Array) -> Array:
    """AUROC of every number for every attribute, in the better direction, float64 (F, A)."""
    from scipy.stats import rankdata

    ranks = rankdata(features, axis=0)  # ties share their mean rank
    positive = attributes.astype(np.float64)
    count = positive.sum(0)
    area = (ranks.T @ positive - count * (count + 1) / 2) / (count * (len(features) - count))
    return np.maximum(area, 1 - area)


def shared_entropy(attributes: Array) -> Array:
    """The largest share of each attribute's entropy that another attribute tells, (A,)."""
    values = attributes.astype(np.float64)
    count = len(values)
    together = np.zeros((values.shape[1],) * 2)
    for one in (values, 1 - values):
        for other in (values, 1 - values):
            joint = one.T @ other / count
            apart = np.outer(one.mean(0), other.mean(0))
            together += np.where(joint > 0, joint * np.log(np.where(joint > 0, joint, 1) / apart), 0)
    own = together.diagonal().copy()
    np.fill_diagonal(together, 0)
    return np.asarray(together.max(1) / own)


def measured(name: str, features: Array, table: BitTable) -> dict[str, Any]:
    """DCI and TAD of one representation, as JSON.

    Arguments:
        name: Its name.
        features: float32 (N, F), rows as the table's.
        table: The table, with at least two factors.
    """
    rows = {split: table.rows(split) for split in SPLITS}
    facts: dict[str, Any] = {"representation": name, "dci": dci(features, factors_of(table), rows).facts()}
    if table.attributes is not None:
        there = table.attributes[rows["test"]]
        varied = (there.mean(0) > 0) & (there.mean(0) < 1)
        names = tuple(np.array(table.attribute_names)[varied].tolist())
        facts["tad"] = tad(features[rows["test"]], there[:, varied], names).facts()
    return facts
