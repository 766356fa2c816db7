"""RePaint: samples of an image's unknown part given its known one, from a network that was not trained for it.

At every step the known pixels are drawn anew from the forward process q(x_s | x_0) of the image, and the unknown ones
come from the sampler; x_s is thus of two pieces that have not seen each other. The jumps mend that: x_t is drawn from
q(x_t | x_s), and the step is taken again.

Reference: A. Lugmayr et al., "RePaint: Inpainting using Denoising Diffusion Probabilistic Models", 2022,
arXiv 2201.09865, algorithm 1; the jumps here have its length j = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dmzcli.diffusion.process import Level
from dmzcli.diffusion.samplers.base import Denoiser, Sampler


@torch.no_grad()
def repaint(
    sampler: Sampler,
    denoiser: Denoiser,
    noise: Callable[[], Tensor],
    image: Tensor,
    known: Tensor,
    fresh: Callable[[], Tensor],
    resample: int = 1,
) -> Tensor:
    """An image that agrees with another where that is known.

    A step that looked back would see pixels that have been replaced since: none does, and multistep samplers take
    steps of first order. With no pixel known and ``resample`` 1 the result is ``sampler.sample(denoiser, noise)``, for
    samplers that do not look back (``ancestral``, ``ddim``).

    Arguments:
        sampler: The reverse process of the unknown pixels.
        denoiser: The network, with its bits bound; it is evaluated T times, and T − 1 times more for each jump.
        noise: The sampler's noise, (B, C, H, W) a call.
        image: x_0, (B, C, H, W) in [−1, 1]; what is unknown in it is not looked at.
        known: bool, broadcast against ``image``: where it is kept.
        fresh: Noise of the known pixels and of the jumps; a stream of its own, so that the sampler's does not move.
        resample: How often each step but the last is taken, r ≥ 1.

    Returns:
        x_0, (B, C, H, W); equal to ``image`` where known.
    """
    process, x = sampler.process, noise()
    for i in reversed(range(len(process))):
        t, s = process.level(i), process.level(i - 1)
        times = resample if i else 1  # the last step ends in the image, which no jump leaves
        for turn in range(times):
            ahead, _ = sampler.advance(denoiser, noise, x, i)
            ahead = torch.where(known, s.signal * image + (s.noise * fresh() if i else 0), ahead)
            if turn + 1 < times:
                x = noised_on(ahead, s, t, fresh())
        x = ahead
    return x


def noised_on(x_s: Tensor, s: Level, t: Level, noise: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_s) = N(a x_s, (σ_t² − a² σ_s²) I), a = α_t / α_s, for a noisier t (RePaint, line 10)."""
    ratio = t.signal / s.signal
    return ratio * x_s + math.sqrt(max(t.noise**2 - (ratio * s.noise) ** 2, 0.0)) * noise
