"""The loop that all samplers share, and the registry that knows them by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import isabstract
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion import Diffusion, Prediction, spaced_timesteps
from dmzcli.errors import UserError, did_you_mean

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, C, H, W), t (B,) on the training scale) → network output (B, C or 2C, H, W)."""

_SAMPLERS: dict[str, type[Sampler]] = {}


class Sampler(ABC):
    """A reverse process.

    Arguments:
        config: The diffusion that the network was trained for.
        steps: T, the number of network evaluations.
        spacing: Which timesteps are visited; see :func:`dmzcli.diffusion.spaced_timesteps`.
        eta: How much noise a step adds, for samplers that let one choose (0 none, 1 the DDPM posterior's).

    Raises:
        UserError: ``steps`` does not fit, or ``eta`` is negative or not finite.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    spacing: ClassVar[Literal["uniform", "ddim"]] = "uniform"  # unless one is chosen

    def __init__(
        self,
        config: DiffusionConfig,
        steps: int,
        spacing: Literal["uniform", "ddim"] = "uniform",
        eta: float = 0.0,
    ) -> None:
        if not 0 <= eta < np.inf:
            raise UserError(
                f"--eta {eta} is not a number from 0 up",
                "0 is deterministic, 1 adds the DDPM posterior's noise",
            )
        self.process = Diffusion(config, spaced_timesteps(config.timesteps, steps, spacing))
        self.eta = eta

    @abstractmethod
    def step(self, x_t: Tensor, i: int, predicted: Prediction, noise: Callable[[], Tensor]) -> Tensor:
        """x at position i − 1 from x_t at position i; at i = 0 the image itself.

        Arguments:
            x_t: (B, C, H, W).
            i: Position in ``process.timesteps``.
            predicted: What the network says at x_t.
            noise: Draws the next standard normal noise of every image, (B, C, H, W); called only if needed.
        """

    @torch.no_grad()
    def sample(self, denoiser: Denoiser, noise: Callable[[], Tensor], clip: bool = True) -> Tensor:
        """Runs all steps from the first noise drawn.

        Arguments:
            denoiser: The network, with its bits bound.
            noise: See :meth:`step`; its first draw is x_T.
            clip: Clamps every x̂_0 to [−1, 1].

        Returns:
            x_0, (B, C, H, W).
        """
        x = noise()
        for i in reversed(range(len(self.process))):
            index = torch.full((len(x),), i, device=x.device)
            output = denoiser(x, self.process.model_timesteps(index))
            x = self.step(x, i, self.process.predict(output, x, index, clip), noise)
        return x


def register(sampler: type[Sampler]) -> type[Sampler]:
    """Makes a sampler known by its name; usable as a decorator.

    Raises:
        ValueError: The name is taken, name or summary is missing, or there is no ``step``.
    """
    for attribute in ("name", "summary"):
        if not isinstance(getattr(sampler, attribute, None), str):
            raise ValueError(f"{sampler.__name__} has no class attribute {attribute!r}")
    if not issubclass(sampler, Sampler) or isabstract(sampler):
        raise ValueError(f"{sampler.__name__} is no Sampler with a step of its own")
    if sampler.name in _SAMPLERS:
        raise ValueError(f"a sampler named {sampler.name!r} is registered already")
    _SAMPLERS[sampler.name] = sampler
    return sampler


def available() -> list[str]:
    """Names of the registered samplers."""
    return sorted(_SAMPLERS)


def sampler_class(name: str) -> type[Sampler]:
    """The class of a sampler.

    Raises:
        UserError: The name is unknown.
    """
    if name not in _SAMPLERS:
        raise UserError(f"unknown sampler '{name}'", did_you_mean(name, _SAMPLERS, "samplers"))
    return _SAMPLERS[name]


def create(
    name: str, config: DiffusionConfig, steps: int, spacing: str | None = None, eta: float = 0.0
) -> Sampler:
    """A sampler by name; ``spacing`` is the sampler's own where none is given.

    Raises:
        UserError: The name or the spacing is unknown, or the arguments do not fit.
    """
    sampler = sampler_class(name)
    spacing = spacing or sampler.spacing
    if spacing not in ("uniform", "ddim"):
        raise UserError(
            f"unknown spacing '{spacing}'", did_you_mean(spacing, ["uniform", "ddim"], "spacings")
        )
    return sampler(config, steps, spacing, eta)  # type: ignore[arg-type]
