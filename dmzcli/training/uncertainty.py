r"""How large the loss is at each noise level, learnt, so that every level can count alike.

u(λ) minimizes L / e^u + u, whose minimum is u = ln E[L | λ]; the network's loss is divided by e^u. Here the factors
e^{−u} are scaled to a mean of 1 over all timesteps, which Adam does not see and a bound on the gradient's norm does.

T. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, arXiv 2312.02696,
appendix B.2, after A. Kendall, Y. Gal, R. Cipolla, 2018, arXiv 1705.07115.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dmzcli.system.randomness import torch_stream

FEATURES = 128
RATE = 0.01


class Uncertainty:
    """u(λ), linear in random Fourier features of λ / 4, and its own Adam.

    Arguments:
        half_log_snr: λ of every timestep, (N,).
        seed: Of the features.
        device: Where losses are.
    """

    def __init__(self, half_log_snr: np.ndarray, seed: int, device: torch.device) -> None:
        generator = torch_stream(torch.device("cpu"), "uncertainty", seed)
        frequencies = torch.randn(FEATURES, generator=generator)
        phases = 2 * math.pi * torch.rand(FEATURES, generator=generator)
        level = torch.from_numpy(np.clip(half_log_snr, -20, 20)).float() / 4
        features = math.sqrt(2) * torch.cos(2 * math.pi * level[:, None] * frequencies + phases)
        self._features = torch.cat([features, torch.ones(len(level), 1)], 1).to(device)  # (N, K)
        self._weights = torch.zeros(self._features.shape[1], device=device)
        self._adam = torch.optim.Adam([self._weights], lr=RATE, betas=(0.9, 0.99))
        self._adam.state[self._weights] = {
            "step": torch.zeros(()),
            **{key: torch.zeros_like(self._weights) for key in ("exp_avg", "exp_avg_sq")},
        }

    def logs(self) -> Tensor:
        """u of every timestep, (N,)."""
        return self._features @ self._weights

    def factors(self, index: Tensor) -> Tensor:
        """What the losses of timesteps (B,) count: e^{−u}, scaled to a mean of 1 over all timesteps."""
        logs = -self.logs()
        return (logs - torch.logsumexp(logs, 0) + math.log(len(logs))).exp()[index]

    def update(self, index: Tensor, losses: Tensor) -> None:
        """One step of Adam on the mean of L e^{−u} + u, for unweighted losses (B,) of timesteps (B,)."""
        features = self._features[index]
        slopes = 1 - losses.float() * (-self.logs()[index]).exp()  # of each term, in u
        self._weights.grad = features.T @ slopes / len(index)
        self._adam.step()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        return {"weights": self._weights, **self._adam.state[self._weights]}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to a state.

        Raises:
            KeyError: A part is missing.
            ValueError: A part has another shape.
        """
        for name, current in self.state().items():
            if state[name].shape != current.shape:
                raise ValueError(
                    f"uncertainty.{name} is {tuple(state[name].shape)}, not {tuple(current.shape)}"
                )
            current.copy_(state[name])
