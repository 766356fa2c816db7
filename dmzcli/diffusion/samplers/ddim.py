"""DDIM: x̂_0 and ε̂ recombined at the next noise level."""

from __future__ import annotations

import math

from torch import Tensor

from dmzcli.diffusion.samplers.base import Sampler, Step, register


@register
class DDIM(Sampler):
    """x_s = α_s x̂_0 + √(σ_s² − ς²) ε̂ + ς ξ, where ς = η (σ_s / σ_t) √(1 − α_t² / α_s²).

    J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", 2021, arXiv 2010.02502, eq. 12 and 16.
    """

    name = "ddim"
    summary = "DDIM; deterministic given x_T at eta 0"
    # At the very last timestep of a cosine schedule x_t is all noise and says nothing of x_0; without fresh noise the
    # guess made there would stay. The whole stride starts below it.
    spacing = "ddim"
    takes_eta = True

    def step(self, at: Step) -> Tensor:
        t, s = at.t, at.s
        fresh = self.eta * s.noise / t.noise * math.sqrt(1 - (t.signal / s.signal) ** 2)
        rest = math.sqrt(max(s.noise**2 - fresh**2, 0.0)) if fresh else s.noise
        x = s.signal * at.predicted.x0 + rest * at.predicted.epsilon
        return x + fresh * at.noise() if fresh and at.i else x
