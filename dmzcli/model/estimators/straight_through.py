r"""Hard Gumbel straight-through: z is the corner of the largest ℓ + g, an exact draw from q(z | x).

Its slope is that of the soft Gumbel code with the same noise.

E. Jang, S. Gu, B. Poole, "Categorical Reparameterization with Gumbel-Softmax", 2017, arXiv 1611.01144, section 2.2.
"""

from __future__ import annotations

from torch import Tensor

from dmzcli.model.estimators.base import Estimator, Values, corners


class Rule(Estimator):
    """Hard codes with the gradient of soft ones."""

    def relax(self, values: Values, logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
        soft = ((values.scores(logits) + noise) / temperature).softmax(-1)
        # In this order, which rounds in the last bit, as the first runs were trained: they resume bit for bit.
        return corners(soft) + soft - soft.detach()
