"""Retrieval by Hamming distance: the anchor of papers on binary codes.

A query ranks all rows of a database by Hamming distance; a row is relevant if it has the query's class. Average
precision of a query at depth R is Σ_{r ≤ R} P(r) rel(r) / Σ_{r ≤ R} rel(r), with P(r) the precision of the first r
rows; mAP@R is its mean over queries, and precision@k the mean share of relevant rows among the first k (Y. Cao et al.:
HashNet, 2017, https://arxiv.org/abs/1702.00758, and the code that later papers share).

Rows at one distance have no order in a Hamming ranking. They are taken in an order of chance, fixed by the seed: sorted
by class, ties would flatter or punish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dmzcli.analysis.probes.metrics import interval, resamples
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.system.randomness import stream

Array = np.ndarray
_BLOCK = 1 << 24
RESAMPLES = 1000


@dataclass(frozen=True)
class Protocol:
    """Which rows ask and which answer.

    Attributes:
        name, summary: What it is.
        queries: Most query rows per class, of test.
        database: ``train``, or ``rest`` for all rows that ask nothing.
        depth: R of mAP@R; ``None`` for the whole database.
    """

    name: str
    summary: str
    queries: int
    database: str
    depth: int | None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "splits", "up to 100 test rows of each class ask, train answers; mAP over all", 100, "train", None
        ),
        Protocol(
            "cifar10-hashing",
            "1,000 test rows of each class ask, all other rows answer; mAP over the first 1,000",
            1000,
            "rest",
            1000,
        ),
    )
}
DEPTHS = (10, 100, 1000)
"""Values of k of precision@k."""


@dataclass(frozen=True)
class Retrieval:
    """What a ranking finds.

    Attributes:
        protocol: Its name.
        queries, database: Numbers of rows.
        depth: R of the mean average precision.
        mean_average_precision: mAP@R.
        low, high: Its 95% bootstrap interval over queries.
        precision: Of the first k, by k.
        chance: The precision of an order of chance.
    """

    protocol: str
    queries: int
    database: int
    depth: int
    mean_average_precision: float
    low: float
    high: float
    precision: dict[int, float]
    chance: float

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "precision": {str(k): value for k, value in self.precision.items()}}


def retrieve(table: BitTable, protocol: str = "splits", seed: int = 0) -> Retrieval:
    """Ranks the rows of a table for queries of its test split.

    Raises:
        UserError: The table has no labels, the protocol is unknown, or no row asks or answers.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown retrieval protocol '{protocol}'", f"protocols: {', '.join(PROTOCOLS)}")
    if table.labels is None:
        raise UserError("the bit table has no labels", "retrieval needs the table of a labeled dataset")
    rule = PROTOCOLS[protocol]
    test = stream("retrieval queries", seed).permutation(table.rows("test"))
    classes = range(len(table.label_names))
    test = np.concatenate([test[table.labels[test] == label][: rule.queries] for label in classes])
    rows = table.rows("train")
    if rule.database == "rest":
        rows = np.setdiff1d(np.arange(len(table.bits)), test)
    for what, some in (("asks", test), ("answers", rows)):
        if not len(some):
            raise UserError(f"no row of the bit table {what}", "probe a table with images in train and test")
    rows = stream("retrieval ties", seed).permutation(rows)
    depth = min(rule.depth or len(rows), len(rows))
    average, found = ranked(table.bits[test], table.labels[test], table.bits[rows], table.labels[rows], depth)
    low, high = interval(resamples(len(test), RESAMPLES, seed) @ average.astype(np.float32) / len(test))
    share = np.bincount(table.labels[rows], minlength=len(table.label_names)) / len(rows)
    return Retrieval(
        protocol=protocol,
        queries=len(test),
        database=len(rows),
        depth=depth,
        mean_average_precision=float(average.mean()),
        low=low,
        high=high,
        precision={k: float(found[k].mean()) for k in found},
        chance=float(share[table.labels[test]].mean()),
    )


def ranked(
    queries: Array, asked: Array, rows: Array, answers: Array, depth: int, depths: Sequence[int] = DEPTHS
) -> tuple[Array, dict[int, Array]]:
    """Average precision at ``depth`` of every query, and its precision at each k that there are rows for.

    Arguments:
        queries, rows: Bits, uint8 (M, D) and (N, D); ties are taken in the order of ``rows``.
        asked, answers: Their classes, (M,) and (N,).
        depth: R, at most N.
        depths: Values of k.
    """
    database = torch.from_numpy(rows.astype(np.float32))
    half = (database * database).sum(1) / 2
    classes = torch.from_numpy(answers)
    average: list[Array] = []
    found: dict[int, list[Array]] = {k: [] for k in depths if k <= len(rows)}
    step = max(1, _BLOCK // len(rows))
    for start in range(0, len(queries), step):
        block = torch.from_numpy(queries[start : start + step].astype(np.float32))
        distance = torch.addmm(half, block, database.T, alpha=-1)
        # Distances are whole numbers and a half of what both share; as int16 they sort fast, and stably.
        keys = (2 * distance).round().to(torch.int16)
        order = keys.sort(dim=1, stable=True).indices[:, : max(depth, *found, 1)]
        relevant = (classes[order] == torch.from_numpy(asked[start : start + step])[:, None]).float()
        places = torch.arange(1, relevant.shape[1] + 1)
        precision = relevant.cumsum(1) / places
        near = relevant[:, :depth]
        average.append(((precision[:, :depth] * near).sum(1) / near.sum(1).clamp(min=1)).numpy())
        for k in found:
            found[k].append(precision[:, k - 1].numpy())
    return np.concatenate(average), {k: np.concatenate(parts) for k, parts in found.items()}
