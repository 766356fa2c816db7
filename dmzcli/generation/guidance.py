r"""Guidance on the bits: ε = ε_∅ + w (ε_z − ε_∅), of a network with its bits and without any.

The network is one, of nested bits, which may all be absent; both evaluations are one batch. As v and x_0 are affine in
ε at given x_t, it is the same whatever the network predicts; a learned variance stays that of the bits. Guidance may
act at some noise levels σ / α alone; at the others it costs nothing.

References:
    J. Ho, T. Salimans, "Classifier-Free Diffusion Guidance", 2022, arXiv 2207.12598, eq. 6, whose w is ours − 1.
    T. Kynkäänniemi et al., "Applying Guidance in a Limited Interval", 2024, arXiv 2404.07724.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmzcli.config import Config, DiffusionConfig
from dmzcli.diffusion.samplers.base import Denoiser
from dmzcli.diffusion.schedule import alphas_bar
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.latents import ABSENT


@dataclass(frozen=True)
class Guidance:
    """How strongly, and where.

    Attributes:
        weight: w; 1 is the network with its bits, 0 the one without.
        interval: Noise levels σ / α at which it acts, above the first and up to the second; elsewhere w is 1.
    """

    weight: float
    interval: tuple[float, float] = (0.0, math.inf)

    def denoiser(self, model: Autoencoder, bits: Tensor, precision: str) -> Denoiser:
        """The guided network, as :meth:`~dmzcli.model.autoencoder.Autoencoder.denoiser` gives the plain one.

        Arguments:
            model: Of nested bits.
            bits: (B, D) of 0, 1 and :data:`~dmzcli.model.latents.ABSENT`.
            precision: Of the network's evaluations.
        """
        plain = model.denoiser(bits, precision)
        both = model.denoiser(torch.cat([bits, torch.full_like(bits, ABSENT)]), precision)
        acts, colors = self._acting(model.config.diffusion), model.shape[0]

        def guided(x_t: Tensor, t: Tensor) -> Tensor:
            if not acts[int(t[0])]:
                return plain(x_t, t)
            twice = t[:1].expand(2 * len(t)) if t.stride() == (0,) else torch.cat([t, t])
            given, free = both(torch.cat([x_t, x_t]), twice).chunk(2)
            mean = torch.lerp(free[:, :colors], given[:, :colors], self.weight)
            return torch.cat([mean, given[:, colors:]], 1)

        return guided

    def _acting(self, diffusion: DiffusionConfig) -> list[bool]:
        """For each timestep of training, whether guidance acts."""
        signal = alphas_bar(diffusion)
        levels = [math.sqrt((1 - each) / each) if each > 0 else math.inf for each in signal.tolist()]
        return [self.interval[0] < level <= self.interval[1] for level in levels]


def check_guided(config: Config) -> None:
    """Raises UserError unless a model can be guided."""
    if not config.model.nested:
        raise UserError(
            "--guidance needs a model whose bits may all be absent, and this one's may not",
            "train one with --set model.nested=true, or leave --guidance out",
        )
