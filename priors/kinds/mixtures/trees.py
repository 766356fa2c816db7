"""The mixture of Chow–Liu trees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors.arrays import Bits, Float32, Float64, Floats
from priors.fit import Rows
from priors.kinds.mixtures.em import EXPONENTIAL, MULTIPLY, MixturePrior
from priors.parts import trees
from priors.registry import register
from priors.storage import State

LEAST_SHARE = 1e-4  # a row counts for a component from this share on
ACTIVE = 4.0  # components that a row counts for, about
SPARSE, INFORMATION = 5e-10, 4e-8  # seconds of a term of the likelihood, and of an entry of the information


@register
class ChowLiuMixture(MixturePrior):
    r"""A mixture of trees, each bit depending on one other in each tree.

    .. math:: p(b \mid g) = \sum_k w_k(g) \prod_i p_k(b_i \mid v_{\pi_k(i)}), \qquad v = (g, b)

    fitted as in Meilă and Jordan ("Learning with mixtures of trees", Journal of Machine Learning Research 1,
    2000, section 3, https://jmlr.org/papers/v1/meila00a.html): every maximization step finds each
    component's Chow–Liu tree anew from its weighted pairwise marginals, here shrunk toward those of all
    codes by ``smoothing`` codes' worth, so that no component starves. Given bits act on the weights and may
    be parents.
    """

    kind = "chow-liu-mixture"
    summary = "a mixture of Chow-Liu trees"
    automatic = True
    grid = (8, 16, 32, 64, 128, 256)
    smoothings = (1.0, 3.0, 10.0, 30.0, 100.0)

    def _variables(self, rows: Rows) -> Float32:
        return trees.variables(rows)

    def _common(self, variables: Float32) -> Float64:
        pairs, n = trees.pair_counts(variables), len(variables)
        return trees.shrink(pairs, n, trees.independent(pairs, n), 1.0)

    def _step_seconds(self, rows: int, size: int) -> float:
        width = self.dim + self.given_dim
        active = rows * min(size, ACTIVE) * width**2 * MULTIPLY + size * width**2 * INFORMATION
        return active + rows * size * (width * (MULTIPLY + SPARSE) + EXPONENTIAL)

    def _maximize(self, variables: Float32, shares: Float32, smoothing: float, common: Float64) -> State:
        parts = []
        for share in shares:
            rows = np.nonzero(share > LEAST_SHARE)[0]
            pairs = trees.pair_counts(variables[rows], share[rows])
            shrunk = trees.shrink(pairs, float(share[rows].sum(dtype=np.float64)), common, smoothing)
            parts.append(trees.fit_tree(shrunk, self.given_dim))
        return trees.state(trees.join(parts))

    def _evaluate(self, components: State, variables: NDArray[Any], dtype: Any) -> Floats:
        return trees.Likelihood(trees.from_state(components, self.dim), self.given_dim, dtype)(variables)

    def _draw(self, which: NDArray[np.intp], u: Float32, given: Bits | None, temperature: float) -> Bits:
        return trees.sample(trees.from_state(self._components, self.dim), which, u, given, temperature)

    def _parameters(self) -> int:
        return trees.parameters(trees.from_state(self._components, self.dim)) + self._gate.size
