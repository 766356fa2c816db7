"""The DDPM's own reverse chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dmzcli.diffusion.process import Prediction
from dmzcli.diffusion.samplers.base import Past, Sampler, register


@register
class Ancestral(Sampler):
    """x_{t−1} ~ N(μ_θ, σ²_t), the DDPM's own reverse chain (Ho et al. 2020, algorithm 2)."""

    name = "ancestral"
    summary = "the DDPM's reverse chain, with the trained or fixed variance"
    adds_noise = True

    def step(
        self,
        x_t: Tensor,
        i: int,
        predicted: Prediction,
        noise: Callable[[], Tensor],
        past: Sequence[Past],
    ) -> Tensor:
        if i == 0:
            return predicted.mean
        return predicted.mean + torch.exp(0.5 * predicted.log_variance) * noise()
