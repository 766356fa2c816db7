"""Independent bits: p(b) = Π_i p_i^{b_i} (1 − p_i)^{1 − b_i}, and with given bits p_i = σ(l_i(g))."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from priors.arrays import Bits, Float32, Float64
from priors.base import Prior
from priors.fit import Fit, Rows
from priors.options import option
from priors.parts import regression
from priors.parts.numerics import log_sigmoid, sigmoid
from priors.registry import register
from priors.storage import State

SMOOTHING = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)


@dataclasses.dataclass(frozen=True)
class BernoulliOptions:
    """Options of :class:`Bernoulli`."""

    smoothing: float | None = option(
        None, "pseudo-count of each value of a bit; auto chooses on valid", low=1e-6
    )
    penalty: float | None = option(
        None, "L2 penalty of the regression on the given bits; auto chooses on valid", low=1e-6
    )


@register
class Bernoulli(Prior):
    r"""Independent bits with smoothed marginals; with given bits, one logistic regression per bit.

    .. math::
        \log p(b \mid g) = \sum_i b_i \log \sigma(l_i(g)) + (1 - b_i) \log \sigma(-l_i(g)),
        \qquad l_i(g) = \log\frac{n_i + a}{N - n_i + a} + w_i^\top (1, g)

    where n_i of N codes have bit i set, a is ``smoothing``, and w_i is 0 without given bits, else the
    minimizer of the negative log-likelihood with an L2 ``penalty``. One-hot labels thus get one Bernoulli
    product each, shrunk toward the common one. The paper's prior is this one with p_i = 1/2
    (Proszewska, Malkin, Siddharth, "On Designing Diffusion Autoencoders for Efficient Generation and
    Representation Learning", 2025, arXiv 2506.00136).
    """

    kind = "bernoulli"
    summary = "independent bits with smoothed marginals (a logistic regression per bit where bits are given)"
    automatic = True
    Options = BernoulliOptions

    _offset: Float64
    _weights: Float64

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        ones, n = train.bits.sum(0, dtype=np.float64), len(train)
        smoothings = SMOOTHING if self.options.smoothing is None else (self.options.smoothing,)
        offsets = [np.log(ones + a) - np.log(n - ones + a) for a in smoothings]
        q = valid.bits.mean(0, dtype=np.float64)
        scores = [np.sum(q * log_sigmoid(c) + (1 - q) * log_sigmoid(-c)) for c in offsets]
        best = int(np.argmax(scores))
        self._offset, self._weights = offsets[best], np.zeros((self.given_dim + 1, self.dim))
        chosen = {"smoothing": smoothings[best]}
        if train.given is not None:
            chosen["penalty"] = self._fit_given(train.given, train, valid, fit)
        return chosen

    def _fit_given(self, given: Bits, train: Rows, valid: Rows, fit: Fit) -> float:
        """Fits the regressions on ``given``; returns their penalty."""

        def regress(penalty: float, start: Float64 | None, tick: Callable[[float], None]) -> Float64:
            return regression.fit(
                given, lambda rows: train.bits[rows], sigmoid, 0.25, self._offset, penalty, start, tick=tick
            )

        def score(weights: Float64) -> float:
            self._weights = weights
            return self._score(valid)

        penalty, self._weights = regression.best_penalty(self.options.penalty, regress, score, fit)
        return penalty

    def _logits(self, given: Bits | None) -> Float64:
        """l(g), (N, D), or (1, D) without given bits."""
        if given is None:
            return self._offset[None]
        return self._offset + regression.design(given).astype(np.float64) @ self._weights

    def _log_prob(self, rows: Rows) -> Float64:
        signs = 2.0 * rows.bits - 1.0
        return log_sigmoid(signs * self._logits(rows.given)).sum(1)

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        return (u < sigmoid(self._logits(given) / temperature)).astype(np.uint8)

    def _state(self) -> State:
        return (
            {"offset": self._offset, "weights": self._weights} if self.given_dim else {"offset": self._offset}
        )

    def _load_state(self, state: State) -> None:
        self._offset = state["offset"].reshape(self.dim)
        shape = (self.given_dim + 1, self.dim)
        self._weights = state["weights"].reshape(shape) if self.given_dim else np.zeros(shape)
