"""No latent at all: the plain diffusion model, the baseline of every comparison."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from torch import Tensor

from dmzcli.errors import UserError
from dmzcli.model.latents.base import Latent


class Family(Latent):
    """Codes of no bits: whoever asks for one is told that there is none."""

    logits_shape = noise_shape = (0,)
    cardinalities = np.zeros(0, np.int64)

    def tokens(self) -> None:
        return None

    def noise(self, uniform: Tensor) -> Tensor:
        return uniform

    def _refuse(self, *given: Tensor) -> NoReturn:
        raise UserError("a model with latent 'none' has no bits", "train one with --latent bernoulli")

    relax = hard = codes = kept = distribution = probabilities = _refuse  # type: ignore[assignment]
    bits = draw = _refuse  # type: ignore[assignment]
