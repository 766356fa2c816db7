"""Resampled codes: a kernel density on the hypercube, centered on the fitted codes themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from priors.arrays import Bits, Float32, Float64
from priors.base import Prior
from priors.fit import Fit, Rows
from priors.options import option
from priors.parts.numerics import draw_index, hamming, log_odds, log_sum_exp
from priors.randomness import generator
from priors.registry import register
from priors.storage import State

FLIPS = tuple(float(r) for r in np.geomspace(1e-4, 0.45, 24))
GIVEN_FLIPS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.2, 0.3, 0.4)
CHOOSING_ROWS = 512


@dataclasses.dataclass(frozen=True)
class EmpiricalOptions:
    """Options of :class:`Empirical`."""

    flip: float | None = option(
        None, "probability of flipping a bit; auto chooses on valid", low=1e-6, high=0.5
    )
    given_flip: float | None = option(
        None,
        "flip probability that weighs codes by their given bits; auto chooses on valid",
        low=1e-6,
        high=0.5,
    )


@register
class Empirical(Prior):
    r"""A code is one of the fitted codes with each bit flipped with a small probability; it memorizes.

    .. math::
        p(b \mid g) = \sum_n w_n(g) \, r^{d(b, b_n)} (1 - r)^{D - d(b, b_n)}, \qquad
        w_n(g) \propto \left(\frac{s}{1 - s}\right)^{d(g, g_n)}

    with Hamming distances d, flip probabilities r of a bit and s of a given bit, and all w_n = 1 / N where nothing is
    given. This is the kernel of Aitchison and Aitken ("Multivariate binary discrimination by the kernel method",
    Biometrika 63, 1976, doi:10.1093/biomet/63.3.413, equation 2); with given bits, the conditional of the joint
    density. Samples are near copies of fitted codes: they show what resampling can reach, and are no model.
    """

    kind = "empirical"
    summary = "fitted codes with flipped bits (memorizes: an upper bound of resampling, not a model)"
    memorises = True
    Options = EmpiricalOptions
    sample_rows = 256
    log_prob_rows = 64

    _codes: Float32
    _given: Float32 | None
    _flip: float
    _given_flip: float

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        self._codes = train.bits.astype(np.float32)
        self._given = None if train.given is None else train.given.astype(np.float32)
        pick = generator(self.seed, 2).permutation(len(valid))[:CHOOSING_ROWS]
        some = valid.take(np.sort(pick))
        flips = FLIPS if self.options.flip is None else (self.options.flip,)
        given_flips = GIVEN_FLIPS if self.options.given_flip is None else (self.options.given_flip,)
        self._flip, self._given_flip = self._choose(some, flips, (0.5,), fit.part(0.0, 0.4))
        if self._given is None:
            return {"flip": self._flip}
        _, self._given_flip = self._choose(some, (self._flip,), given_flips, fit.part(0.4, 0.6))
        self._flip, _ = self._choose(some, flips, (self._given_flip,), fit.part(0.6, 1.0))
        return {"flip": self._flip, "given_flip": self._given_flip}

    def _choose(
        self, rows: Rows, flips: tuple[float, ...], given_flips: tuple[float, ...], fit: Fit
    ) -> tuple[float, float]:
        """The pair of flip probabilities under which the rows are most likely; in single precision."""
        pairs = [(flip, given_flip) for flip in flips for given_flip in given_flips]
        totals = np.zeros(len(pairs))
        for at in range(0, len(rows), self.log_prob_rows):
            block = rows.take(slice(at, at + self.log_prob_rows))
            distance = hamming(block.bits, self._codes)
            apart = None if block.given is None or self._given is None else hamming(block.given, self._given)
            for i, (flip, given_flip) in enumerate(pairs):
                kernel = distance * log_odds(flip)
                totals[i] += len(block) * self.dim * np.log1p(-flip)
                if apart is not None:
                    weights = apart * log_odds(given_flip)
                    kernel += weights
                    totals[i] -= log_sum_exp(weights, 1, overwrite=True).sum()
                totals[i] += log_sum_exp(kernel, 1, overwrite=True).sum()
            fit.progress((at + len(block)) / len(rows), "flip probabilities")
        return pairs[int(np.argmax(totals))]

    def _log_weights(self, given: Bits | None) -> Float64:
        """Log weight of every fitted code, (R, N), or (1, 1) without given bits; not normalized."""
        if given is None or self._given is None:
            return np.zeros((1, 1))
        return hamming(given, self._given).astype(np.float64) * log_odds(self._given_flip)

    def _log_prob(self, rows: Rows) -> Float64:
        r = self._flip
        kernel = hamming(rows.bits, self._codes).astype(np.float64) * log_odds(r)
        weights = self._log_weights(rows.given)
        kernel += weights
        norm = np.log(len(self._codes)) if rows.given is None else log_sum_exp(weights, 1, overwrite=True)
        return log_sum_exp(kernel, 1, overwrite=True) - norm + self.dim * np.log1p(-r)

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        n = len(self._codes)
        if given is None:
            center = np.minimum((u[:, 0].astype(np.float64) * n).astype(np.int64), n - 1)
        else:
            weights = self._log_weights(given)
            center = draw_index(np.exp(weights - weights.max(1, keepdims=True)), u[:, 0])
        odds = (self._flip / (1 - self._flip)) ** (1 / temperature)
        flip = u[:, 1:] < odds / (1 + odds)
        return (self._codes[center].astype(np.uint8) ^ flip).astype(np.uint8)

    def _width(self) -> int:
        return self.dim + 1

    def _state(self) -> State:
        state: State = {"codes": np.packbits(self._codes.astype(np.uint8), axis=1)}
        if self._given is not None:
            state["given"] = np.packbits(self._given.astype(np.uint8), axis=1)
        state["flips"] = np.array([self._flip, self._given_flip])
        return state

    def _load_state(self, state: State) -> None:
        if state["codes"].ndim != 2 or state["codes"].shape[1] != (self.dim + 7) // 8:
            raise ValueError(f"its codes are not of {self.dim} bits")
        self._codes = np.unpackbits(state["codes"], axis=1, count=self.dim).astype(np.float32)
        self._given = None
        if self.given_dim:
            self._given = np.unpackbits(state["given"], axis=1, count=self.given_dim).astype(np.float32)
        self._flip, self._given_flip = (float(value) for value in state["flips"])

    def _parameters(self) -> int:
        given = 0 if self._given is None else self._given.size + 1
        return self._codes.size + 1 + given
