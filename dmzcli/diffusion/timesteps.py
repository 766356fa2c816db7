r"""Which timesteps training draws: evenly, or in proportion to how large their loss is.

The loss is an average over timesteps, (1/N) Σ_t E[L_t]. Drawn from p_t and weighted by 1 / (N p_t) it keeps its
expectation for every p; its variance is least for

    p_t ∝ √E[L_t²].

A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, arXiv 2102.09672, eq. 18.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray
HISTORY = 10
"""Losses remembered of each timestep, as published."""
UNIFORM = 0.001
"""Share of even draws, so that a timestep with a vanishing loss is still seen."""


class LossSecondMoment:
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

    def draw(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps for numbers drawn evenly from [0, 1), and their weights.

        Arguments:
            uniforms: (B,).

        Returns:
            Timesteps int64 (B,) and 1 / (N p_t) float32 (B,).
        """
        p = self.probabilities()
        index = np.searchsorted(np.cumsum(p), uniforms.double().cpu().numpy(), side="right")
        index = np.minimum(index, len(p) - 1)  # the sum may round below 1
        weights = (1 / (len(p) * p[index])).astype(np.float32)
        return torch.from_numpy(index).to(uniforms.device), torch.from_numpy(weights).to(uniforms.device)

    def update(self, index: Tensor, losses: Tensor) -> None:
        """Remembers unweighted losses (B,) of timesteps (B,), the oldest forgotten first."""
        for t, loss in zip(index.tolist(), losses.double().tolist(), strict=True):
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
