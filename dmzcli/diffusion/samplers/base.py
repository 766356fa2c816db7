"""The loop that all samplers share, and the registry that knows them by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from inspect import isabstract
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.process import Diffusion, Prediction
from dmzcli.diffusion.spacings import spaced_timesteps
from dmzcli.diffusion.thresholds import PERCENTILE, bounded
from dmzcli.errors import UserError, did_you_mean

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, C, H, W), t (B,) on the training scale) → network output (B, C or 2C, H, W)."""

_SAMPLERS: dict[str, type[Sampler]] = {}


class Past(NamedTuple):
    """An earlier step of the same call."""

    i: int
    x: Tensor  # what the step went on from, corrected where the sampler corrects
    x0: Tensor  # what the network made of it


class Sampler(ABC):
    """A reverse process.

    Every step evaluates the network once, so that T is both the number of steps and of evaluations. Multistep samplers
    look back at what this call, and no other, has seen.

    Arguments:
        config: The diffusion that the network was trained for.
        steps: T, the number of network evaluations.
        spacing: Which timesteps are visited; see :mod:`dmzcli.diffusion.spacings`.
        eta: How much noise a step adds, for samplers that let one choose (0 none, 1 the DDPM posterior's).
        threshold: How x̂_0 is kept in range: none, clip or dynamic; see :mod:`dmzcli.diffusion.thresholds`.
        percentile: Of the dynamic threshold.

    Raises:
        UserError: ``steps`` does not fit, ``eta`` is negative or not finite, or the threshold is unknown.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    spacing: ClassVar[str] = "uniform"  # for networks that predict ε, unless one is chosen
    adds_noise: ClassVar[bool] = False  # whatever eta is
    takes_eta: ClassVar[bool] = False

    def __init__(
        self,
        config: DiffusionConfig,
        steps: int,
        spacing: str = "uniform",
        eta: float = 0.0,
        threshold: str = "clip",
        percentile: float = PERCENTILE,
    ) -> None:
        if not 0 <= eta < np.inf:
            raise UserError(
                f"--eta {eta} is not a number from 0 up",
                "0 is deterministic, 1 adds the DDPM posterior's noise",
            )
        if eta and not self.takes_eta:
            raise UserError(
                f"--eta {eta} means nothing to the sampler '{self.name}'", "leave it out, or use ddim"
            )
        self.process = Diffusion(config, spaced_timesteps(config, steps, spacing))
        self.eta = eta
        self.threshold = bounded(threshold, percentile)

    @classmethod
    def usual_spacing(cls, config: DiffusionConfig) -> str:
        """The spacing where none is chosen.

        Solvers without noise start a stride below the last timestep of a network that predicts ε: there x_t is all
        noise, its estimate of x_0 is a guess, and the guess would stay. A network that predicts x_0 or v estimates the
        mean image there, and is started at the very end.
        """
        early = cls.spacing in ("ddim", "leading")
        return "trailing" if early and config.prediction != "epsilon" else cls.spacing

    @property
    def deterministic(self) -> bool:
        """Whether the image is a function of x_T alone."""
        return not (self.adds_noise or self.eta)

    def correct(self, x_t: Tensor, i: int, predicted: Prediction, past: Sequence[Past]) -> Tensor:
        """A better x at position i, now that the network was evaluated there; x_t itself unless a sampler knows better.

        Arguments:
            x_t: What the last step made, and the network saw.
            i: Position in ``process.timesteps``.
            predicted: What the network said.
            past: This call's last two steps, newest last; empty at the first.
        """
        return x_t

    @abstractmethod
    def step(
        self,
        x_t: Tensor,
        i: int,
        predicted: Prediction,
        noise: Callable[[], Tensor],
        past: Sequence[Past],
    ) -> Tensor:
        """x at position i − 1 from x_t at position i; at i = 0 the image itself.

        Arguments:
            x_t: (B, C, H, W), corrected.
            i: Position in ``process.timesteps``.
            predicted: What the network said at x_t.
            noise: Draws the next standard normal noise of every image, (B, C, H, W); called only if needed.
            past: See :meth:`correct`.
        """

    @torch.no_grad()
    def sample(self, denoiser: Denoiser, noise: Callable[[], Tensor]) -> Tensor:
        """Runs all steps from the first noise drawn.

        Arguments:
            denoiser: The network, with its bits bound.
            noise: See :meth:`step`; its first draw is x_T.

        Returns:
            x_0, (B, C, H, W).
        """
        x = noise()
        past: list[Past] = []
        for i in reversed(range(len(self.process))):
            index = torch.full((len(x),), i, device=x.device)
            # One timestep for all images, as a view of one number: a network may embed it once.
            output = denoiser(x, self.process.model_timesteps(index[:1]).expand(len(x)))
            predicted = self.process.predict(output, x, index, self.threshold)
            x = self.correct(x, i, predicted, past)
            made = self.step(x, i, predicted, noise, past)
            past = [*past[-1:], Past(i, x, predicted.x0)]
            x = made
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


def resolved(recipe: Mapping[str, Any], config: DiffusionConfig) -> dict[str, Any]:
    """A recipe (``sampler``, ``steps``, ``spacing``, …) whose spacing is chosen: the usual one where it is ``None``."""
    usual = sampler_class(recipe["sampler"]).usual_spacing(config)
    return {**recipe, "spacing": recipe["spacing"] or usual}


def create(
    name: str,
    config: DiffusionConfig,
    steps: int,
    spacing: str | None = None,
    eta: float = 0.0,
    threshold: str = "clip",
    percentile: float = PERCENTILE,
) -> Sampler:
    """A sampler by name; ``spacing`` is :meth:`Sampler.usual_spacing` where none is given.

    Raises:
        UserError: The name or the spacing is unknown, or the arguments do not fit.
    """
    sampler = sampler_class(name)
    return sampler(config, steps, spacing or sampler.usual_spacing(config), eta, threshold, percentile)
