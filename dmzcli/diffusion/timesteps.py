r"""Which timesteps training draws: evenly, in proportion to how large their loss is, or by a fixed density.

The loss is an average over timesteps, (1/N) Σ_t E[L_t]. Drawn from p_t and weighted by 1 / (N p_t) it keeps its
expectation for every p; its variance is least for

    p_t ∝ √E[L_t²].

A fixed density is not weighted back: drawing a timestep more often is what makes it count more.

A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, arXiv 2102.09672, eq. 18.
P. Esser et al., "Scaling Rectified Flow Transformers …", 2024, arXiv 2403.03206, eq. 19 (logit-normal).
T. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022, arXiv 2206.00364, table 1
    (log-normal noise level).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.process import Diffusion

Array = np.ndarray
HISTORY = 10
"""Losses remembered of each timestep, as published."""
UNIFORM = 0.001
"""Share of even draws, so that a timestep with a vanishing loss is still seen."""


class Timesteps(ABC):
    """A law of timesteps."""

    @abstractmethod
    def probabilities(self) -> Array:
        """p_t, float64 (N,)."""

    def draw(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps for numbers drawn evenly from [0, 1), and their weights.

        Arguments:
            uniforms: (B,).

        Returns:
            Timesteps int64 (B,), and weights float32 (B,).
        """
        p = self.probabilities()
        index = np.searchsorted(np.cumsum(p), uniforms.cpu().double().numpy(), side="right")
        index = np.minimum(index, len(p) - 1)  # the sum may round below 1
        weights = self.weights(p[index]).astype(np.float32)
        return torch.from_numpy(index).to(uniforms.device), torch.from_numpy(weights).to(uniforms.device)

    def weights(self, p: Array) -> Array:
        """What losses of timesteps with probabilities p (B,) count."""
        return np.ones_like(p)

    def update(self, index: Tensor, losses: Tensor) -> None:  # noqa: B027
        """Learns from unweighted losses (B,) of timesteps (B,); a fixed law learns nothing."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Goes back to a state.

        Raises:
            KeyError: A part is missing.
            ValueError: A part has another shape.
        """


class Density(Timesteps):
    """A fixed law.

    Arguments:
        values: What p_t is in proportion to, float64 (N,), not negative.
    """

    def __init__(self, values: Array) -> None:
        self._p = values / values.sum()

    def probabilities(self) -> Array:
        return self._p


def logit_normal(timesteps: int) -> Density:
    """t / N has a logit that is standard normal: the middle is drawn most often, the ends hardly ever."""
    u = (np.arange(timesteps) + 0.5) / timesteps
    return Density(np.exp(-0.5 * np.log(u / (1 - u)) ** 2) / (u * (1 - u)))


def log_normal(half_log_snr: Array) -> Density:
    """ln σ / α is normal with mean −1.2 and deviation 1.2, as EDM has it.

    Arguments:
        half_log_snr: λ = ln α / σ of every timestep, (N,), descending.
    """
    level = -half_log_snr
    finite = np.isfinite(level)  # where there is noise alone, the density is 0
    values = np.zeros_like(level)
    values[finite] = np.exp(-0.5 * ((level[finite] + 1.2) / 1.2) ** 2) * np.gradient(level[finite])
    return Density(values)


def create(config: DiffusionConfig) -> Timesteps | None:
    """The law that the settings name; ``None`` for even draws."""
    if config.timestep_sampling == "loss-second-moment":
        return LossSecondMoment(config.timesteps)
    if config.timestep_sampling == "logit-normal":
        return logit_normal(config.timesteps)
    if config.timestep_sampling == "log-normal":
        return log_normal(Diffusion(config).half_log_snr)
    return None


class LossSecondMoment(Timesteps):
    """p_t ∝ √(mean of the last ten L_t²); even until every timestep has been drawn ten times.

    Arguments:
        timesteps: N.
    """

    def __init__(self, timesteps: int) -> None:
        self.history = np.zeros((timesteps, HISTORY))
        self.counts = np.zeros(timesteps, np.int64)

    def probabilities(self) -> Array:
        """p_t, float64 (N,)."""
        even = np.full(len(self.counts), 1 / len(self.counts))
        if (self.counts < HISTORY).any():
            return even
        moments = np.sqrt((self.history**2).mean(1))
        if not moments.any():
            return even
        return (1 - UNIFORM) * moments / moments.sum() + UNIFORM * even

    def weights(self, p: Array) -> Array:
        """1 / (N p_t), which keeps the expectation."""
        inverse: Array = 1 / (len(self.counts) * p)
        return inverse

    def update(self, index: Tensor, losses: Tensor) -> None:
        """Remembers unweighted losses (B,) of timesteps (B,), the oldest forgotten first."""
        for t, loss in zip(index.tolist(), losses.tolist(), strict=True):
            self.history[t, self.counts[t] % HISTORY] = loss
            self.counts[t] += 1

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        return {"history": torch.from_numpy(self.history), "counts": torch.from_numpy(self.counts)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to a state.

        Raises:
            KeyError: A part is missing.
            ValueError: A part has another shape.
        """
        for name, current in (("history", self.history), ("counts", self.counts)):
            if state[name].shape != current.shape:
                raise ValueError(f"timesteps.{name} is {tuple(state[name].shape)}, not {current.shape}")
            current[...] = state[name].numpy()
