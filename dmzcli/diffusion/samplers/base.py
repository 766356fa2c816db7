"""The loop that all samplers share, and the registry that knows them by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from inspect import isabstract
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.process import Diffusion, Level, Prediction
from dmzcli.diffusion.spacings import spaced_timesteps
from dmzcli.diffusion.thresholds import PERCENTILE, bounded
from dmzcli.errors import UserError
from dmzcli.system.registry import Registry, check_texts

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, C, H, W), t (B,) on the training scale) → network output (B, C or 2C, H, W)."""


class Past(NamedTuple):
    """An earlier step of the same call."""

    t: Level
    x: Tensor  # x_t, corrected where the sampler corrects
    x0: Tensor  # the estimate of x_0 there


class Step(NamedTuple):
    """A step of the way from noise to image: from x_t to x_s, less noisy.

    Attributes:
        i: Position of t in ``process.timesteps``; the step from 0 ends at the image.
        x: x_t, (B, C, H, W).
        predicted: The network's estimates at x_t.
        noise: Draws the next standard normal noise of every image, (B, C, H, W); called only if needed.
        past: This call's last two steps, newest last; empty at the first.
        t, s: Signal and noise at both ends.
    """

    i: int
    x: Tensor
    predicted: Prediction
    noise: Callable[[], Tensor]
    past: Sequence[Past]
    t: Level
    s: Level


class Sampler(ABC):
    """A reverse process.

    Every step evaluates the network once, so that T is both the number of steps and of evaluations. Multistep samplers
    look back at what this call, and no other, has seen.

    Arguments:
        config: The diffusion that the network was trained for.
        steps: T, the number of network evaluations.
        spacing: Name of the spacing of the timesteps, see :mod:`dmzcli.diffusion.spacings`; or the T timesteps
            themselves, ascending.
        eta: Noise that a step adds, for samplers that let one choose (0 none, 1 the DDPM posterior's).
        threshold: Bound of x̂_0: none, clip or dynamic; see :mod:`dmzcli.diffusion.thresholds`.
        percentile: Percentile of the dynamic threshold.

    Raises:
        UserError: ``steps`` does not fit, ``eta`` is negative or not finite, or the threshold is unknown.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    spacing: ClassVar[str] = "uniform"  # for networks that predict ε, unless one is chosen
    adds_noise: ClassVar[bool] = False  # whatever eta is
    takes_eta: ClassVar[bool] = False
    law: ClassVar[int] = 1  # raised when the same recipe makes other images than it did

    def __init__(
        self,
        config: DiffusionConfig,
        steps: int,
        spacing: str | Sequence[int] = "uniform",
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

        Solvers start a stride below the last timestep of a network that predicts ε: there x_t is all noise, its
        estimate of x_0 is a guess, and the guess would stay. A network that predicts x_0 or v estimates the mean image
        there, and is started at the very end. ``benchmarks/results/solvers-exact.md`` has the measurements.
        """
        early = cls.spacing in ("ddim", "leading", "leading-quadratic")
        return "trailing" if early and config.prediction != "epsilon" else cls.spacing

    @property
    def deterministic(self) -> bool:
        """Whether the image is a function of x_T alone."""
        return not (self.adds_noise or self.eta)

    def correct(self, at: Step) -> Tensor:
        """A better x_t, now that the network was evaluated there; ``at.x`` itself unless a sampler knows better."""
        return at.x

    @abstractmethod
    def step(self, at: Step) -> Tensor:
        """x_s, (B, C, H, W); where ``at.i`` is 0, the image itself."""

    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser,
        noise: Callable[[], Tensor],
        start: Tensor | None = None,
        watch: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Runs all steps from x_T.

        Arguments:
            denoiser: The network, with its bits bound.
            noise: Draws the next standard normal noise of every image, (B, C, H, W).
            start: x_T, (B, C, H, W); by default the first noise drawn.
            watch: Shown the estimate x̂_0, (B, C, H, W), of every step as it comes; what it raises ends the call.

        Returns:
            x_0, (B, C, H, W).
        """
        x = noise() if start is None else start
        past: list[Past] = []
        for i in reversed(range(len(self.process))):
            x, seen = self.advance(denoiser, noise, x, i, past)
            if watch is not None:
                watch(seen.x0)
            past = [*past[-1:], seen]
        return x

    @torch.no_grad()
    def advance(
        self, denoiser: Denoiser, noise: Callable[[], Tensor], x: Tensor, i: int, past: Sequence[Past] = ()
    ) -> tuple[Tensor, Past]:
        """One step of the way, from x_t at position ``i`` of the timesteps.

        Arguments:
            denoiser: The network, with its bits bound.
            noise: Draws the next standard normal noise of every image, (B, C, H, W).
            x: x_t, (B, C, H, W).
            i: Position of t; the step from 0 ends at the image.
            past: The last two steps, newest last; without them a multistep sampler's step is of first order.

        Returns:
            x_s, (B, C, H, W), and what a later step may look back at.
        """
        index = torch.full((len(x),), i, device=x.device)
        # One timestep for all images, as a view of one number: a network may embed it once.
        output = denoiser(x, self.process.model_timesteps(index[:1]).expand(len(x)))
        predicted = self.process.predict(output, x, index, self.threshold)
        at = Step(i, x, predicted, noise, past, self.process.level(i), self.process.level(i - 1))
        at = at._replace(x=self.correct(at))
        return self.step(at), Past(at.t, at.x, predicted.x0)


def _check(entry: Any) -> type[Sampler]:
    check_texts(entry, getattr(entry, "__name__", repr(entry)))
    if not (isinstance(entry, type) and issubclass(entry, Sampler)) or isabstract(entry):
        raise ValueError(f"{entry.__name__} is no Sampler with a step of its own")
    return entry


SAMPLERS: Registry[type[Sampler]] = Registry("sampler", _check)
S = TypeVar("S", bound=type[Sampler])


def register(sampler: S) -> S:
    """Makes a sampler known by its name; usable as a decorator.

    Raises:
        ValueError: The name is taken, name or summary is missing, or there is no ``step``.
    """
    SAMPLERS.add(sampler)
    return sampler


def available() -> list[str]:
    """Names of the registered samplers."""
    return SAMPLERS.names()


def sampler_class(name: str) -> type[Sampler]:
    """The class of a sampler.

    Raises:
        UserError: The name is unknown.
    """
    return SAMPLERS.get(name)


def create(
    name: str,
    config: DiffusionConfig,
    steps: int,
    spacing: str | Sequence[int] | None = None,
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
