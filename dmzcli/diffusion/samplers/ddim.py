"""DDIM: x̂_0 and ε̂ recombined at the next noise level."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from dmzcli.diffusion.process import Prediction
from dmzcli.diffusion.samplers.base import Past, Sampler, register


@register
class DDIM(Sampler):
    """x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − σ²) ε̂ + σ ξ.

    J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", 2021, arXiv 2010.02502, eq. 12 and 16.
    """

    name = "ddim"
    summary = "DDIM; deterministic given x_T at eta 0"
    # At the very last timestep of a cosine schedule x_t is all noise and says nothing of x_0; without fresh noise the
    # guess made there would stay. The whole stride starts below it.
    spacing = "ddim"
    takes_eta = True

    def step(
        self,
        x_t: Tensor,
        i: int,
        predicted: Prediction,
        noise: Callable[[], Tensor],
        past: Sequence[Past],
    ) -> Tensor:
        now, before = self.process.alphas_bar[i], self.process.alphas_bar_previous[i]
        sigma = self.eta * np.sqrt((1 - before) / (1 - now) * (1 - now / before))
        x = np.sqrt(before) * predicted.x0 + np.sqrt(max(1 - before - sigma**2, 0.0)) * predicted.epsilon
        return x + sigma * noise() if sigma > 0 and i > 0 else x
