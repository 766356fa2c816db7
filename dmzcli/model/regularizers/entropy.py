r"""Entropy of the marginals: 1 − mean_g H(q̄_g) / log K, with q̄ the mean of q(z | x) over the batch.

0 where every variable takes all its values equally often, 1 where each is stuck at one.

L. Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation", 2023, arXiv 2310.05737: one term
of its entropy penalty.
"""

from __future__ import annotations

import math

from torch import Tensor

from dmzcli.model.batch_norm import over_processes
from dmzcli.model.latents import Latent
from dmzcli.model.regularizers.base import Regularizer


class Entropy(Regularizer):
    """Every value of every variable as often as the others."""

    def __call__(self, latent: Latent, logits: Tensor) -> Tensor:
        marginal = over_processes(latent.distribution(logits).mean(0))
        # The clamp alone keeps 0 log 0 at 0, and its slope finite.
        entropy = -(marginal * marginal.clamp(min=1e-30).log()).sum(-1)
        return 1 - entropy.mean() / math.log(marginal.shape[-1])
