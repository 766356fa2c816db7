"""DDIM inversion: which noise x_T a deterministic sampler turns into a given image."""

from __future__ import annotations

import torch
from torch import Tensor

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.names import TUNED
from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.samplers import create
from dmzcli.diffusion.samplers.base import Denoiser
from dmzcli.diffusion.spacings import NoStride
from dmzcli.errors import UserError

USUAL_STEPS = 100


def usual_steps(config: DiffusionConfig, spacing: str | None = None) -> int:
    """The T of an inversion where none is asked for: 100, or the most below that DDIM's spacing takes.

    Raises:
        UserError: The spacing is unknown, or ``tuned``, which is for one T.
    """
    if spacing == TUNED:
        raise UserError("tuned timesteps are those of one T, and none is given", "say how many steps")
    for steps in range(min(USUAL_STEPS, config.timesteps), 1, -1):
        try:
            create("ddim", config, steps, spacing)
        except NoStride:
            continue
        return steps
    return 1


@torch.no_grad()
def invert(process: Diffusion, denoiser: Denoiser, x0: Tensor) -> Tensor:
    """x_T of an image: DDIM's steps backwards, x_{i+1} = α_{i+1} x̂_0 + σ_{i+1} ε̂, both estimated at x_i.

    J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", 2021, arXiv 2010.02502, section 4.3. An
    exact way back would need ε̂ at x_{i+1}, which is not known yet: the round trip is exact up to O(1/T). Nothing is
    clipped, since what is clipped does not come back.

    Arguments:
        process: The timesteps of the sampler that is inverted, ``sampler.process``.
        denoiser: The network, with its bits bound; it is evaluated T times.
        x0: Images (B, C, H, W) in [−1, 1].

    Returns:
        x_T, (B, C, H, W).
    """

    def estimate(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        index = torch.full((len(x),), i, device=x.device)
        predicted = process.predict(denoiser(x, process.model_timesteps(index)), x, index, threshold=None)
        return predicted.x0, predicted.epsilon

    def noised(x0: Tensor, epsilon: Tensor, i: int) -> Tensor:
        return process.add_noise(x0, torch.full((len(x0),), i, device=x0.device), epsilon)

    # There is no timestep of the image itself: the lowest stands for it, and its x̂_0 is known.
    x = noised(x0, estimate(x0, 0)[1], 0)
    for i in range(1, len(process)):
        x = noised(*estimate(x, i - 1), i)
    return x
