"""The protocol: every head on every representation for every target, on the same rows and the same resamples.

Heads are fitted on train and chosen on valid; test is touched once, by what was chosen. A label budget of b percent is
b percent of the labels of train *and* of valid: labels that choose are labels, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dmzcli.analysis.probes.heads import HEADS
from dmzcli.analysis.probes.heads.base import choose
from dmzcli.analysis.probes.metrics import hits, interval, rank_measures, resamples
from dmzcli.analysis.probes.targets import Target
from dmzcli.errors import UserError
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import stream

Array = np.ndarray
RESAMPLES = {True: 1000, False: 200}
"""Bootstrap resamples of classes and of attributes, whose measures sort and cost more."""


@dataclass(frozen=True, eq=False)
class Score:
    """One head on one representation for one target, with one budget of labels.

    Attributes:
        target, representation, head: Names.
        features: Width of the representation.
        budget: Share of the labels of train and valid, 0 to 1.
        measure: ``accuracy`` or ``AUROC``.
        valid: On valid, of what was chosen; the mean over draws, as ``test``.
        test: On test.
        low, high: 95% bootstrap interval of ``test`` over test rows, of the mean over draws.
        draws: ``test`` of each draw of the budget.
        settings: What was chosen, of the first draw.
        converged: Whether every chosen fit met its solver's tolerance.
        minus_first: Difference to the first representation with the same head, target and budget, and its paired
            interval; ``None`` of the first itself.
        details: Per class ``recall`` and ``confusion`` (true class, predicted class), or per attribute ``auroc`` and
            ``average_precision``, and the mean of the latter; of the first draw.
    """

    target: str
    representation: str
    head: str
    features: int
    budget: float
    measure: str
    valid: float
    test: float
    low: float
    high: float
    draws: tuple[float, ...]
    settings: dict[str, Any]
    converged: bool
    minus_first: tuple[float, float, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **vars(self),
            "draws": list(self.draws),
            "minus_first": self.minus_first and list(self.minus_first),
        }


@dataclass(frozen=True, eq=False)
class Rows:
    """A representation by splits: features (N, F) of train, valid and test."""

    name: str
    train: Array
    valid: Array
    test: Array


Spread = tuple[float, Array]
"""A measure, and its values on every resample, (B,)."""


def measure_all(
    representations: Sequence[Rows],
    target: Target,
    rows: dict[str, Array],
    heads: Sequence[str],
    budgets: Sequence[float] = (1.0,),
    draws: int = 3,
    seed: int = 0,
    talk: Talk | None = None,
    truth: Array | None = None,
) -> list[Score]:
    """Measures every head on every representation.

    Arguments:
        representations: The first is the one that the others are compared with.
        target: What is read.
        rows: Positions of ``train``, ``valid`` and ``test`` in the target's values.
        heads: Names of heads.
        budgets: Shares of the labels.
        draws: How often the rows of a budget below 1 are drawn.
        seed: Seed of draws, heads and resamples.
        talk: Receiver of progress.
        truth: Values (M, K) of the test rows, where they are another table's.

    Raises:
        UserError: A budget is too small for the table.
    """
    talk = talk or Silence()
    protocol = _Protocol(target, rows, target.values[rows["test"]] if truth is None else truth, seed)
    scores: list[Score] = []
    with talk.task(f"probing {target.name}", len(budgets) * len(heads) * len(representations)) as advance:
        for budget in budgets:
            parts = protocol.parts(budget, draws)
            for head in heads:
                first: Spread | None = None
                for one in representations:
                    advance(len(scores), f"{head} on {one.name}")
                    score, spread = protocol.measure(one, head, budget, parts, first)
                    first = first or spread
                    scores.append(score)
        advance(len(scores), "")
    return scores


class _Protocol:
    """What all measurements of a target share: the rows, and the resamples of test."""

    def __init__(self, target: Target, rows: dict[str, Array], truth: Array, seed: int) -> None:
        self.target, self.truth, self.seed = target, truth, seed
        self.train, self.valid = target.values[rows["train"]], target.values[rows["valid"]]
        self.counts = resamples(len(truth), RESAMPLES[target.exclusive], seed)

    def parts(self, budget: float, draws: int) -> list[tuple[Array, Array]]:
        """Positions within train and valid of each draw; a smaller budget's rows are a larger one's, too."""
        if budget >= 1:
            return [(np.arange(len(self.train)), np.arange(len(self.valid)))]
        drawn = []
        for draw in range(draws):
            train, valid = (
                np.sort(
                    stream("probe budget", split, self.seed, draw).permutation(count)[
                        : max(1, round(budget * count))
                    ]
                )
                for split, count in (("train", len(self.train)), ("valid", len(self.valid)))
            )
            there = self.train[train]
            needed = there.shape[1] if self.target.exclusive else 2
            if len(there) < needed or (self.target.exclusive and there.any(0).sum() < 2):
                raise UserError(
                    f"a budget of {budget:.3g} of {len(self.train):,} training rows is {len(there):,} rows, too few "
                    f"to fit a probe of the {self.target.name}",
                    "name larger ones with --budgets",
                )
            drawn.append((train, valid))
        return drawn

    def measure(
        self, one: Rows, head: str, budget: float, parts: list[tuple[Array, Array]], first: Spread | None
    ) -> tuple[Score, Spread]:
        """Fits, chooses and tests a head once for each draw of a budget."""
        exclusive = self.target.exclusive
        chosen = [
            choose(
                HEADS.get(head)(),
                (one.train[a], self.train[a]),
                (one.valid[b], self.valid[b]),
                one.test,
                exclusive,
                self.seed + draw,
            )
            for draw, (a, b) in enumerate(parts)
        ]
        spreads = [self.spread(fit.scores) for fit in chosen]
        test = float(np.mean([point for point, _ in spreads]))
        values = np.mean([value for _, value in spreads], axis=0)
        low, high = interval(values)
        details = _of_classes if exclusive else _of_attributes
        score = Score(
            target=self.target.name,
            representation=one.name,
            head=head,
            features=one.train.shape[1],
            budget=budget,
            measure=self.target.measure,
            valid=float(np.mean([fit.valid for fit in chosen])),
            test=test,
            low=low,
            high=high,
            draws=tuple(point for point, _ in spreads),
            settings=chosen[0].settings,
            converged=all(fit.converged for fit in chosen),
            minus_first=None if first is None else (test - first[0], *interval(values - first[1])),
            details=details(chosen[0].scores, self.truth, self.target),
        )
        return score, (test, values)

    def spread(self, scores: Array) -> Spread:
        """The measure of test scores, and its values on the resamples."""
        if self.target.exclusive:
            right = hits(scores, self.truth).astype(np.float32)
            return float(right.mean()), self.counts @ right / len(right)
        columns = range(self.truth.shape[1])
        points = [rank_measures(scores[:, k], self.truth[:, k])[0][0] for k in columns]
        values = [rank_measures(scores[:, k], self.truth[:, k], self.counts)[0] for k in columns]
        return float(np.mean(points)), np.nanmean(values, axis=0)


def _of_classes(scores: Array, truth: Array, target: Target) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix

    classes = np.arange(len(target.names))
    confusion = confusion_matrix(truth.argmax(1), scores.argmax(1), labels=classes)
    total = confusion.sum(1)
    recall = {
        name: float(confusion[k, k] / total[k]) if total[k] else None for k, name in enumerate(target.names)
    }
    return {"recall": recall, "confusion": confusion.tolist()}


def _of_attributes(scores: Array, truth: Array, target: Target) -> dict[str, Any]:
    each = [rank_measures(scores[:, k], truth[:, k]) for k in range(truth.shape[1])]
    auroc = {name: float(one[0][0]) for name, one in zip(target.names, each, strict=True)}
    average = {name: float(one[1][0]) for name, one in zip(target.names, each, strict=True)}
    return {
        "auroc": auroc,
        "average_precision": average,
        "mean_average_precision": float(np.mean(list(average.values()))),
    }
