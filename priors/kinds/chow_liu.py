"""The tree of pairwise dependence: exact likelihood, ancestral sampling, fitted from one matrix product."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors.arrays import Bits, Float32, Float64
from priors.base import Prior
from priors.errors import PriorError
from priors.fit import Fit, Rows
from priors.options import option
from priors.parts import trees
from priors.registry import register
from priors.storage import State

SMOOTHING = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
MOST_VALUES = 256  # distinct values of given that get a tree each
Candidate = tuple[trees.Trees, Bits, int]  # trees, values, roots


@dataclasses.dataclass(frozen=True)
class ChowLiuOptions:
    """Options of :class:`ChowLiu`."""

    smoothing: float | None = option(
        None,
        "codes' worth of shrinkage toward independence, or of a given value's tree to the common one",
        low=1e-6,
    )
    conditioning: str | None = option(
        None,
        "a tree per value of given, or given bits as parents; auto chooses on valid",
        choices=("values", "parents"),
    )


@register
class ChowLiu(Prior):
    r"""The tree of maximum likelihood: each bit depends on at most one other.

    .. math:: \log p(b \mid g) = \sum_i \log p(b_i \mid v_{\pi(i)}), \qquad v = (g, b)

    where the edges maximize the sum of mutual informations (Chow and Liu, "Approximating discrete
    probability distributions with dependence trees", 1968, doi:10.1109/TIT.1968.1054142, equation 12),
    computed from pairwise marginals :math:`(n_{ij} + a p_i p_j) / (N + a)` with ``smoothing`` a.

    With given bits there are two exact conditionals, and the held-out codes choose: ``values``, a tree for
    each distinct value of g, its marginals shrunk toward the common ones (labels; values that were never
    seen get the common tree); ``parents``, one tree in which given bits may be parents (arbitrary bits).
    """

    kind = "chow-liu"
    summary = "the tree of maximum mutual information: each bit depends on one other"
    automatic = True
    Options = ChowLiuOptions

    _trees: trees.Trees
    _values: Bits  # packed distinct values of given, a tree for each; the last tree is the common one
    _roots: int  # given bits among the variables of the trees

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        modes = ("parents",) if train.given is None else ("values", "parents")
        if train.given is not None and self.options.conditioning is not None:
            modes = (self.options.conditioning,)
        smoothings = SMOOTHING if self.options.smoothing is None else (self.options.smoothing,)
        candidates: list[tuple[float, dict[str, Any], Candidate]] = []
        for m, mode in enumerate(modes):
            at = self._one_tree(train) if mode == "parents" else self._tree_per_value(train, len(modes) == 1)
            for s, smoothing in enumerate(smoothings if at is not None else ()):
                assert at is not None
                candidate = self._trees, self._values, self._roots = at(smoothing)
                chosen = {"smoothing": smoothing, **({"conditioning": mode} if self.given_dim else {})}
                candidates.append((self._score(valid), chosen, candidate))
                fit.progress((m + (s + 1) / len(smoothings)) / len(modes), f"tree, smoothing {smoothing:g}")
        _, chosen, (self._trees, self._values, self._roots) = max(candidates, key=lambda best: best[0])
        return chosen

    def _one_tree(self, train: Rows) -> Callable[[float], Candidate]:
        """One tree, with the given bits among the parents."""
        pairs = trees.pair_counts(trees.variables(train))

        def at(smoothing: float) -> Candidate:
            shrunk = trees.shrink(pairs, len(train), trees.independent(pairs, len(train)), smoothing)
            return trees.fit_tree(shrunk, self.given_dim), np.zeros((0, 0), np.uint8), self.given_dim

        return at

    def _tree_per_value(self, train: Rows, alone: bool) -> Callable[[float], Candidate] | None:
        """A tree for each distinct value of given; ``None`` or an error where they are too many."""
        assert train.given is not None
        values, index = np.unique(np.packbits(train.given, axis=1), axis=0, return_inverse=True)
        if len(values) > MOST_VALUES:
            if alone:
                raise PriorError(
                    f"option 'conditioning' of the prior 'chow-liu' is 'values', and given has {len(values)} "
                    f"distinct values; expected at most {MOST_VALUES}",
                    "leave it to auto, or use parents",
                )
            return None
        bits, index = train.bits.astype(np.float32), index.reshape(-1)
        counts = [trees.pair_counts(bits[index == v]) for v in range(len(values))]
        total = np.sum(counts, axis=0)
        common = trees.shrink(total, len(train), trees.independent(total, len(train)), 1.0)

        def at(smoothing: float) -> Candidate:
            parts = [
                trees.fit_tree(trees.shrink(pairs, int((index == v).sum()), common, smoothing), 0)
                for v, pairs in enumerate(counts)
            ]
            return trees.join([*parts, trees.fit_tree(common, 0)]), values, 0

        return at

    def _which(self, given: Bits | None, rows: int) -> NDArray[np.intp]:
        """The tree of each row."""
        which = np.full(rows, len(self._trees) - 1)
        if given is not None and len(self._values):
            packed = np.packbits(given, axis=1)
            stacked = np.concatenate([self._values, packed])
            _, first, index = np.unique(stacked, axis=0, return_index=True, return_inverse=True)
            place = first[index.reshape(-1)[len(self._values) :]]
            which = np.where(place < len(self._values), place, which)
        return which

    def _log_prob(self, rows: Rows) -> Float64:
        columns = trees.variables(rows) if self._roots else rows.bits
        likelihood, which = trees.Likelihood(self._trees, self._roots), self._which(rows.given, len(rows))
        return likelihood(columns)[which, np.arange(len(rows))].astype(np.float64)

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        which = self._which(given, len(u))
        return trees.sample(self._trees, which, u, given if self._roots else None, temperature)

    def _state(self) -> State:
        return {**trees.state(self._trees), "values": self._values, "roots": np.array([self._roots])}

    def _load_state(self, state: State) -> None:
        self._trees = trees.from_state(state, self.dim)
        self._values, self._roots = state["values"], int(state["roots"][0])

    def _parameters(self) -> int:
        return trees.parameters(self._trees)
