r"""Soft Gumbel (the paper's): z = softmax((ℓ + g) / τ) with Gumbel noise g, a point inside the simplex.

Its gradient is exact for these codes, which are hard only as τ → 0; evaluation takes hard ones.

E. Jang, S. Gu, B. Poole, "Categorical Reparameterization with Gumbel-Softmax", 2017, arXiv 1611.01144.
C. Maddison, A. Mnih, Y. W. Teh, "The Concrete Distribution", 2017, arXiv 1611.00712.
"""

from __future__ import annotations

from torch import Tensor

from dmzcli.model.estimators.base import Estimator, Values


class Rule(Estimator):
    """Soft codes."""

    def relax(self, values: Values, logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
        return ((values.scores(logits) + noise) / temperature).softmax(-1)
