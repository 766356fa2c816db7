"""The DDPM's own reverse chain."""

from __future__ import annotations

import torch
from torch import Tensor

from dmzcli.diffusion.samplers.base import Sampler, Step, register


@register
class Ancestral(Sampler):
    """x_{t−1} ~ N(μ_θ, σ²_t), the DDPM's own reverse chain (Ho et al. 2020, algorithm 2)."""

    name = "ancestral"
    summary = "the DDPM's reverse chain, with the trained or fixed variance"
    adds_noise = True

    def step(self, at: Step) -> Tensor:
        mean, log_variance = at.predicted.mean, at.predicted.log_variance
        return mean + torch.exp(0.5 * log_variance) * at.noise() if at.i else mean
