r"""Categorical variables: q(z | x) = Π_g softmax(ℓ_g), each one of K values without an order.

A value's bits are its number, highest bit first. E. Jang, S. Gu, B. Poole, "Categorical Reparameterization with
Gumbel-Softmax", 2017, arXiv 1611.01144.
"""

from __future__ import annotations

from dmzcli.model.latents.discrete import Discrete


class Family(Discrete):
    """K logits a variable, which are its scores."""
