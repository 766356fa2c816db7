r"""Spacings: which T of a trained process's N timesteps a sampler visits.

A spacing is a function of the whole process and of T, registered under a name with :func:`register`. With
u = i / (T − 1) from the image (0) to the noise (1), and λ_t = log(α_t / σ_t), half the log-SNR:

=====================  ==================================================================================
spacing                timesteps
=====================  ==================================================================================
``uniform``            u (N − 1), both ends included (I-DDPM's "10")
``ddim``               every k-th from 0, for the smallest whole k that gives exactly T (I-DDPM's "ddim10")
``leading``            ⌊i N / T⌋: starts from 0 and stops a stride below the noise; ``ddim`` where T divides N
``trailing``           N − 1, N − 1 − N/T, …: starts from the noise and stops a stride above the image
``quadratic``          u² (N − 1), dense at the image (J. Song et al. 2021, arXiv 2010.02502, appendix D.2)
``leading-quadratic``  u² (N − N/T): dense at the image, and stops where ``leading`` does
``log-snr``            equidistant in λ, from 0 to the noise or to λ = −5.1 (C. Lu et al., "DPM-Solver", 2022,
                       arXiv 2206.00927, which cuts the cosine schedule off there)
=====================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.names import TUNED
from dmzcli.diffusion.process import Diffusion
from dmzcli.errors import UserError
from dmzcli.system.registry import Registry, check_texts

Array = np.ndarray


class NoStride(UserError):
    """No whole stride gives a number of timesteps exactly."""


LAMBDA_MIN = -5.1
"""x_t says nothing of x_0 below it, and a cosine schedule has much of λ there in few timesteps."""


class Spacing(NamedTuple):
    """A named choice of timesteps.

    Attributes:
        name, summary: Name and a line about it, for the command line.
        timesteps: The whole process and T → ascending numbers in [0, N − 1], (T,), rounded afterwards; T ≥ 2.
    """

    name: str
    summary: str
    timesteps: Callable[[Diffusion, int], Array]


def _check(entry: Any) -> Spacing:
    if not (isinstance(entry, Spacing) and callable(entry.timesteps)):
        raise ValueError(f"{entry!r} is no Spacing of a function")
    check_texts(entry, "Spacing")
    return entry


SPACINGS: Registry[Spacing] = Registry("spacing", _check)


def register(name: str, summary: str) -> Callable[[Callable[[Diffusion, int], Array]], Spacing]:
    """Makes a function of the process and T known as a spacing; a decorator, which gives the :class:`Spacing`.

    Raises:
        ValueError: The name is taken or malformed, or the summary is no line of text.
    """
    return lambda timesteps: SPACINGS.add(Spacing(name, summary, timesteps))


@register("uniform", "even, from the image to the noise, both ends included")
def _uniform(process: Diffusion, steps: int) -> Array:
    return (len(process) - 1) / (steps - 1) * np.arange(steps)


@register("ddim", "every k-th from the image, for a whole k that gives exactly T")
def _ddim(process: Diffusion, steps: int) -> Array:
    for stride in range(1, len(process) + 1):
        timesteps = np.arange(0, len(process), stride)
        if len(timesteps) == steps:
            return timesteps
    raise NoStride(
        f"no whole stride takes {steps} of {len(process)} timesteps",
        "use --spacing leading, --spacing uniform, or another --steps",
    )


@register("leading", "even from the image, and stops a stride below the noise")
def _leading(process: Diffusion, steps: int) -> Array:
    return np.arange(steps) * len(process) // steps


@register("trailing", "even from the noise, and stops a stride above the image")
def _trailing(process: Diffusion, steps: int) -> Array:
    return len(process) - len(process) / steps * np.arange(steps)[::-1] - 1


@register("quadratic", "the squares of even ones: dense at the image")
def _quadratic(process: Diffusion, steps: int) -> Array:
    return (len(process) - 1) * np.linspace(0, 1, steps) ** 2


@register("leading-quadratic", "dense at the image, and stops a stride below the noise")
def _leading_quadratic(process: Diffusion, steps: int) -> Array:
    return (len(process) - len(process) / steps) * np.linspace(0, 1, steps) ** 2


@register("log-snr", "even in the logarithm of the signal-to-noise ratio")
def _log_snr(process: Diffusion, steps: int) -> Array:
    falling = process.half_log_snr
    levels = np.linspace(falling[0], max(falling[-1], LAMBDA_MIN), steps)
    return np.interp(-levels, -falling, np.arange(len(process)))


def spacings() -> list[str]:
    """Names of the spacings."""
    return SPACINGS.names()


def _distinct(numbers: Array, timesteps: int) -> Array:
    """The whole numbers nearest to ascending ones, moved apart where two are the same and kept below ``timesteps``."""
    whole = np.round(numbers).astype(np.int64)
    order = np.arange(len(whole))
    whole = np.maximum.accumulate(whole - order) + order  # at least one above the one before
    return np.minimum(whole, timesteps - len(whole) + order)


def _given(config: DiffusionConfig, steps: int, timesteps: Sequence[int]) -> Array:
    """Timesteps that are named one by one."""
    given = np.asarray(timesteps)
    whole = given.shape == (steps,) and np.issubdtype(given.dtype, np.integer)
    if not (whole and given[0] >= 0 and given[-1] < config.timesteps and (np.diff(given) > 0).all()):
        raise UserError(
            f"{list(timesteps)} are not {steps} ascending timesteps of a model of {config.timesteps}",
            "tune the run's timesteps anew with dmz tune-steps",
        )
    return given.astype(np.int64)


def spaced_timesteps(config: DiffusionConfig, steps: int, spacing: str | Sequence[int] = "uniform") -> Array:
    """The timesteps that a process of fewer steps keeps: ascending, distinct, int64 (steps,).

    Where a dense end of a spacing asks for the same timestep twice, its neighbors above are taken. A single step
    starts at the noise, whatever the spacing.

    Arguments:
        config: The process that was trained.
        steps: Number of timesteps to keep.
        spacing: A name of the table above, or of a registered spacing; or the timesteps themselves, ascending.

    Raises:
        UserError: The spacing is unknown or a run's own, there are too few timesteps, no whole stride gives this many
            (``ddim``), or something else than ascending timesteps was given.
    """
    if not isinstance(spacing, str):
        return _given(config, steps, spacing)
    if spacing == TUNED:
        raise UserError(
            "tuned timesteps are those of one run, and here is no run",
            "name its timesteps themselves, or another spacing",
        )
    choose = SPACINGS.get(spacing).timesteps
    if not 1 <= steps <= config.timesteps:
        raise UserError(
            f"--steps {steps} does not fit a model of {config.timesteps} timesteps",
            f"choose 1 to {config.timesteps}",
        )
    if steps == 1:
        return np.array([config.timesteps - 1])
    numbers = np.asarray(choose(Diffusion(config), steps))
    inside = numbers.shape == (steps,) and numbers[0] > -0.5 and numbers[-1] < config.timesteps - 0.5
    if not (inside and (np.diff(numbers) >= 0).all()):
        raise UserError(
            f"the spacing '{spacing}' gave {numbers}, not {steps} ascending timesteps",
            "use another --spacing",
        )
    return _distinct(numbers, config.timesteps)
