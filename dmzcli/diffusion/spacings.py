r"""Spacings: which T of a trained process's N timesteps a sampler visits.

With u = i / (T − 1) from the image (0) to the noise (1), and λ_t = ½ log(ᾱ_t / (1 − ᾱ_t)), half the log-SNR:

============  ===========================================================================================
spacing       timesteps
============  ===========================================================================================
``uniform``   u (N − 1), both ends included (I-DDPM's "10")
``ddim``      every k-th from 0, for the smallest whole k that gives exactly T (I-DDPM's "ddim10")
``leading``   ⌊i N / T⌋: starts from 0 and stops a stride below the noise; ``ddim`` where T divides N
``trailing``  N − 1, N − 1 − N/T, …: starts from the noise and stops a stride above the image
``quadratic`` u² (N − 1), dense at the image (J. Song et al. 2021, arXiv 2010.02502, appendix D.2)
``log-snr``   equidistant in λ, from 0 to the noise or to λ = −5.1 (C. Lu et al., "DPM-Solver", 2022,
              arXiv 2206.00927, which cuts the cosine schedule off there)
============  ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.schedule import alphas_bar, half_log_snr
from dmzcli.errors import UserError, did_you_mean

Array = np.ndarray
LAMBDA_MIN = (
    -5.1
)  # x_t says nothing of x_0 below it, and a cosine schedule has much of λ there in few timesteps


def _ddim(config: DiffusionConfig, steps: int) -> Array:
    for stride in range(1, config.timesteps + 1):
        kept = np.arange(0, config.timesteps, stride)
        if len(kept) == steps:
            return kept
    raise UserError(
        f"no whole stride takes {steps} of {config.timesteps} timesteps",
        "use --spacing leading, --spacing uniform, or another --steps",
    )


def _log_snr(config: DiffusionConfig, steps: int) -> Array:
    falling = half_log_snr(alphas_bar(config))
    wanted = np.linspace(falling[0], max(falling[-1], LAMBDA_MIN), steps)
    return np.interp(-wanted, -falling, np.arange(config.timesteps))


_SPACINGS: dict[str, Callable[[DiffusionConfig, int], Array]] = {
    "uniform": lambda config, steps: (config.timesteps - 1) / (steps - 1) * np.arange(steps),
    "ddim": _ddim,
    "leading": lambda config, steps: np.arange(steps) * config.timesteps // steps,
    "trailing": lambda config, steps: (
        config.timesteps - config.timesteps / steps * np.arange(steps)[::-1] - 1
    ),
    "quadratic": lambda config, steps: (config.timesteps - 1) * np.linspace(0, 1, steps) ** 2,
    "log-snr": _log_snr,
}


def spacings() -> list[str]:
    """Names of the spacings."""
    return sorted(_SPACINGS)


def check_spacing(name: str) -> None:
    """Raises UserError if there is no spacing of that name."""
    if name not in _SPACINGS:
        raise UserError(f"unknown spacing '{name}'", did_you_mean(name, _SPACINGS, "spacings"))


def _distinct(wanted: Array, timesteps: int) -> Array:
    """The whole numbers nearest to ascending ones, moved apart where two are the same and kept below ``timesteps``."""
    kept = np.round(wanted).astype(np.int64)
    order = np.arange(len(kept))
    kept = np.maximum.accumulate(kept - order) + order  # at least one above the one before
    return np.minimum(kept, timesteps - len(kept) + order)


def spaced_timesteps(config: DiffusionConfig, steps: int, spacing: str = "uniform") -> Array:
    """The timesteps that a process of fewer steps keeps: ascending, distinct, int64 (steps,).

    Where a dense end of a spacing asks for the same timestep twice, its neighbours above are taken. A single step
    starts at the noise, whatever the spacing.

    Arguments:
        config: The process that was trained.
        steps: How many to keep.
        spacing: See above.

    Raises:
        UserError: The spacing is unknown, there are too few timesteps, or (``ddim``) no whole stride gives this many.
    """
    check_spacing(spacing)
    if not 1 <= steps <= config.timesteps:
        raise UserError(
            f"--steps {steps} does not fit a model of {config.timesteps} timesteps",
            f"choose 1 to {config.timesteps}",
        )
    if steps == 1:
        return np.array([config.timesteps - 1])
    return _distinct(_SPACINGS[spacing](config, steps), config.timesteps)
