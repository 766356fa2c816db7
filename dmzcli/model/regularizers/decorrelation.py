r"""Decorrelation: the mean over pairs of bits i ≠ j of ρ_ij², the squared correlation of q(z_i = 1 | x) and
q(z_j = 1 | x) over the batch.

0 where no bit tells of another, in second moments; 1 where all are copies. Bits that hardly vary have no correlation: ε
is added to every variance.

M. Cogswell et al., "Reducing Overfitting in Deep Networks by Decorrelating Representations", 2016, arXiv 1511.06068,
with covariances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmzcli.model.batch_norm import over_processes
from dmzcli.model.latents import Latent
from dmzcli.model.regularizers.base import Regularizer

EPSILON = 1e-4


class Decorrelation(Regularizer):
    """No bit linearly predicts another."""

    def __call__(self, latent: Latent, logits: Tensor) -> Tensor:
        p = latent.probabilities(logits)
        centered = p - over_processes(p.mean(0))
        covariance = over_processes(centered.T @ centered / len(p))
        deviation = (covariance.diagonal() + EPSILON).sqrt()
        correlation = covariance / torch.outer(deviation, deviation)
        pairs = max(1, p.shape[1] * (p.shape[1] - 1))
        return (correlation.square().sum() - correlation.diagonal().square().sum()) / pairs
