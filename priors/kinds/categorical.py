"""Blocks of bits as categorical variables: exact within a block, independent between blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors.arrays import Bits, Float32, Float64, Floats, Integers
from priors.base import Prior
from priors.errors import PriorError
from priors.fit import Fit, Rows, marginals
from priors.options import option
from priors.parts import regression, trees
from priors.parts.numerics import draw_index, log_softmax, softmax
from priors.registry import register
from priors.storage import State

WIDTHS = (1, 2, 4, 6, 8, 10)
WIDTHS_GIVEN = (1, 2, 4)  # a regression has 2^b targets a block
SMOOTHING = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
NEVER = -1e4  # logit of a value that a shorter last block cannot take


@dataclasses.dataclass(frozen=True)
class CategoricalOptions:
    """Options of :class:`Categorical`."""

    block: int | None = option(None, "bits of a block; auto chooses on valid", low=1, high=12)
    grouping: str | None = option(
        None,
        "adjacent bits, those that share most information, or those of groups; auto chooses on valid",
        choices=("adjacent", "information", "groups"),
    )
    groups: tuple[int, ...] | None = option(
        None,
        "bits of each variable that codes are made of, in order, as 2,2,4: blocks that are tried too; auto: unknown",
        low=1,
        high=12,
    )
    smoothing: float | None = option(
        None, "codes' worth of shrinkage toward independent bits; auto chooses on valid", low=1e-6
    )
    penalty: float | None = option(
        None, "L2 penalty of the regression on the given bits; auto chooses on valid", low=1e-6
    )


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Bits cut into blocks: ``bits`` int64 (M, b) holds the bits of each block, D where a block is short."""

    bits: Integers
    dim: int

    @property
    def values(self) -> int:
        """2^b."""
        return 1 << self.bits.shape[1]

    def encode(self, codes: Bits) -> Integers:
        """The value of each block, int64 (N, M); the first bit of a block is the highest."""
        padded = np.hstack([codes, np.zeros((len(codes), 1), np.uint8)])
        out = np.zeros((len(codes), len(self.bits)), np.int64)
        for column in self.bits.T:
            out = 2 * out + padded[:, column]
        return out

    def decode(self, values: Integers) -> Bits:
        """The codes of block values (N, M): uint8 (N, D)."""
        padded = np.zeros((len(values), self.dim + 1), np.uint8)
        width = self.bits.shape[1]
        for j, column in enumerate(self.bits.T):
            padded[:, column] = (values >> (width - 1 - j)) & 1
        return padded[:, : self.dim]

    def independent(self, p: Float64) -> Float64:
        """Probabilities (M, 2^b) of independent bits with marginals ``p`` (D,)."""
        marginal = np.append(p, 0.0)[self.bits]  # a missing bit is always 0
        table = np.ones((len(self.bits), 1))
        for column in marginal.T:
            factors = np.stack([1 - column, column], axis=1)
            table = (table[:, :, None] * factors[:, None, :]).reshape(len(table), -1)
        return table


@register
class Categorical(Prior):
    r"""Blocks of b bits, each a 2^b-way variable; blocks are independent.

    .. math::
        \log p(b \mid g) = \sum_m \log \mathrm{softmax}\bigl(\log\theta_m + W_m^\top (1, g)\bigr)_{v_m(b)}, \qquad
        \theta_{mv} = \frac{n_{mv} + a \prod_{i \in m} p_i(v)}{N + a}

    with counts n of the value v of block m, its probability under independent bits, and ``smoothing`` a: the
    posterior mean of a Dirichlet prior (Gelman et al., "Bayesian Data Analysis", third edition, 2013,
    equation 3.3). W is 0 without given bits, else a penalized softmax regression per block. Blocks are
    adjacent bits, or grown greedily by mutual information; or, where ``groups`` says which bits are one
    variable of the code, these variables. b, grouping and a are chosen on held-out codes.
    """

    kind = "categorical"
    summary = "blocks of b bits as independent 2^b-way variables"
    automatic = True
    Options = CategoricalOptions
    sample_rows = 1024
    log_prob_rows = 1024

    _blocks: Blocks
    _logits: Float64  # (M, 2^b)
    _weights: Float64  # (G + 1, M 2^b)

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        widths: tuple[int, ...] = WIDTHS if train.given is None else WIDTHS_GIVEN
        if self.options.block is not None:
            widths = (self.options.block,)
        widths = tuple(sorted({min(width, self.dim) for width in widths}))
        information = trees.information(train.bits)
        groups = self._groups(max(widths) if train.given is not None else None)
        tried: list[Blocks | int] = [*groups, *(() if self.options.grouping == "groups" else widths)]
        candidates = []
        for i, width in enumerate(tried):
            part = fit.part(i / len(tried), (i + 1) / len(tried))
            blockings = [("groups", width)] if isinstance(width, Blocks) else self._cuts(width, information)
            block = width.bits.shape[1] if isinstance(width, Blocks) else width
            chosen = {"block": block, **self._fit_tables(blockings, train, valid)}
            if train.given is not None:
                chosen["penalty"] = self._fit_given(train.given, train, valid, part)
            candidates.append((self._score(valid), chosen, (self._blocks, self._logits, self._weights)))
            part.progress(1.0, f"blocks of {block}")
        _, chosen, (self._blocks, self._logits, self._weights) = max(candidates, key=lambda best: best[0])
        return chosen

    def _groups(self, widest: int | None) -> list[Blocks]:
        """The blocks of the option ``groups``, if they are to be tried: by choice, only if no wider than ``widest``."""
        groups, grouping = self.options.groups, self.options.grouping
        if groups is None:
            if grouping == "groups":
                raise PriorError(
                    "the grouping 'groups' has no groups", "say how many bits each has: groups=2,2,4"
                )
            return []
        if sum(groups) != self.dim:
            raise PriorError(
                f"the groups have {sum(groups)} bits, not {self.dim}", "name the bits of every group"
            )
        if grouping == "groups":
            if self.options.block is not None:
                raise PriorError("the grouping 'groups' has blocks of its own", "leave block out")
            return [of_groups(groups)]
        narrow = widest is None or max(groups) <= widest
        return [of_groups(groups)] if grouping is None and self.options.block is None and narrow else []

    def _cuts(self, width: int, information: Float64) -> list[tuple[str, Blocks]]:
        """The ways to cut codes into blocks of one width, by name."""
        groupings = ("adjacent", "information") if self.options.grouping is None else (self.options.grouping,)
        return [
            (name, group(information, width, name)) for name in (groupings if width > 1 else groupings[:1])
        ]

    def _fit_tables(self, blockings: list[tuple[str, Blocks]], train: Rows, valid: Rows) -> dict[str, Any]:
        """The best grouping and smoothing among blocks, whatever is given."""
        smoothings = SMOOTHING if self.options.smoothing is None else (self.options.smoothing,)
        candidates = []
        for grouping, blocks in blockings:
            counts, held = count(blocks, train.bits), count(blocks, valid.bits)
            for smoothing in smoothings:
                theta = (counts + smoothing * blocks.independent(marginals(train.bits))) / (
                    len(train) + smoothing
                )
                logits = np.log(
                    np.maximum(theta, np.exp(NEVER)), where=theta > 0, out=np.full(theta.shape, NEVER)
                )
                chosen = {"grouping": grouping, "smoothing": smoothing}
                candidates.append((float((held * logits).sum()), chosen, (blocks, logits)))
        _, chosen, (self._blocks, self._logits) = max(candidates, key=lambda best: best[0])
        self._weights = np.zeros((self.given_dim + 1, self._logits.size))
        return chosen

    def _fit_given(self, given: Bits, train: Rows, valid: Rows, fit: Fit) -> float:
        """Fits the softmax regressions on ``given``; returns their penalty."""
        values, size, offset = self._blocks.encode(train.bits), self._blocks.values, self._logits.ravel()

        def target(rows: slice) -> NDArray[np.bool_]:
            return (values[rows][:, :, None] == np.arange(size)).reshape(-1, self._logits.size)

        def mean(logits: Floats) -> Floats:
            return softmax(logits.reshape(-1, *self._logits.shape)).reshape(logits.shape)

        def regress(penalty: float, start: Float64 | None, tick: Callable[[float], None]) -> Float64:
            return regression.fit(given, target, mean, 0.5, offset, penalty, start, steps=100, tick=tick)

        def score(weights: Float64) -> float:
            self._weights = weights
            return self._score(valid)

        penalty, self._weights = regression.best_penalty(self.options.penalty, regress, score, fit)
        return penalty

    def _log_tables(self, given: Bits | None, temperature: float = 1.0) -> Floats:
        """log p(v | g) of every block's values, (N, M, 2^b), or (1, M, 2^b) where nothing is given."""
        logits = self._logits[None]
        if given is not None:
            moved = regression.design(given).astype(np.float64) @ self._weights
            logits = logits + moved.reshape(-1, *self._logits.shape)
        return log_softmax(logits / temperature)

    def _log_prob(self, rows: Rows) -> Float64:
        tables, values = self._log_tables(rows.given), self._blocks.encode(rows.bits)
        row = np.zeros(1, np.int64) if rows.given is None else np.arange(len(rows))
        return tables[row[:, None], np.arange(len(self._logits)), values].sum(1)

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        tables = np.exp(self._log_tables(given, temperature))
        draws = [draw_index(tables[:, m], u[:, m]) for m in range(len(self._logits))]
        return self._blocks.decode(np.stack(draws, axis=1))

    def _width(self) -> int:
        return len(self._logits)

    def _state(self) -> State:
        state: State = {"blocks": self._blocks.bits, "logits": self._logits}
        return {**state, "weights": self._weights} if self.given_dim else state

    def _load_state(self, state: State) -> None:
        self._blocks, self._logits = Blocks(state["blocks"], self.dim), state["logits"]
        if self._logits.shape != (len(self._blocks.bits), self._blocks.values):
            raise ValueError(f"logits of shape {self._logits.shape} for blocks {self._blocks.bits.shape}")
        shape = (self.given_dim + 1, self._logits.size)
        self._weights = state["weights"].reshape(shape) if self.given_dim else np.zeros(shape)

    def _parameters(self) -> int:
        free = int((self._logits > NEVER).sum()) - len(self._logits)
        return free * (1 + (self.given_dim + 1 if self.given_dim else 0))


def group(information: Float64, width: int, grouping: str) -> Blocks:
    """Cuts D bits into blocks of ``width``: in their order, or each grown from the pair that shares most.

    Arguments:
        information: Mutual information of the bits, (D, D).
        width: b.
        grouping: ``adjacent`` or ``information``.
    """
    dim = len(information)
    order = list(range(dim))
    if grouping == "information":
        left, order = np.ones(dim, bool), []
        shared = information - np.diag(np.diag(information))
        while left.any():
            open_ = np.where(left, shared[:, left].max(1), -np.inf)
            block = [int(open_.argmax())]
            left[block[0]] = False
            while len(block) < width and left.any():
                block.append(int(np.where(left, shared[block].sum(0), -np.inf).argmax()))
                left[block[-1]] = False
            order += block
    padded = np.full(-(-dim // width) * width, dim)
    padded[:dim] = order
    return Blocks(padded.reshape(-1, width).astype(np.int64), dim)


def of_groups(widths: Sequence[int]) -> Blocks:
    """Blocks of these many bits each, in the order of the bits."""
    first, most = np.cumsum([0, *widths]), max(widths)
    dim = int(first[-1])
    columns = np.arange(most)
    rows = [
        np.where(columns < width, start + columns, dim) for start, width in zip(first, widths, strict=False)
    ]
    return Blocks(np.array(rows, np.int64), dim)


def count(blocks: Blocks, bits: Bits) -> Float64:
    """How often each block has each value, (M, 2^b)."""
    values, size = blocks.encode(bits), blocks.values
    flat = (values + size * np.arange(values.shape[1])).ravel()
    return np.bincount(flat, minlength=values.shape[1] * size).reshape(-1, size).astype(np.float64)
