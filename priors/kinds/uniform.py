"""The uniform prior: p(b) = 2^−D for every code, whatever is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from priors.arrays import Bits, Float32, Float64
from priors.base import Prior
from priors.fit import Fit, Rows
from priors.registry import register
from priors.storage import State


@register
class Uniform(Prior):
    r"""Every code is as likely as any other.

    .. math:: \log p(b \mid g) = -D \log 2

    It fits nothing and ignores what is given; it is the floor of every comparison.
    """

    kind = "uniform"
    summary = "every code equally likely; fits nothing"
    automatic = True

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        return {}

    def _log_prob(self, rows: Rows) -> Float64:
        return np.full(len(rows), -self.dim * np.log(2.0))

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        return (u < 0.5).astype(np.uint8)

    def _state(self) -> State:
        return {}

    def _load_state(self, state: State) -> None:
        pass
