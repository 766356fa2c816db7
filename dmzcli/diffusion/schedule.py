r"""Noise schedules: the variances β_t of single steps, and the ᾱ_t = Π_{s ≤ t} (1 − β_s) that follow from them.

References:
    J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", 2020, arXiv 2006.11239.
    A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, arXiv 2102.09672.
    S. Lin, B. Liu, J. Li, X. Yang, "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2024,
        arXiv 2305.08891.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from dmzcli.config import DiffusionConfig

Array = np.ndarray


def betas(schedule: Literal["cosine", "linear"], timesteps: int) -> Array:
    r"""The variances β_t, float64 (timesteps,).

    ``linear`` runs from 10⁻⁴ to 0.02 at 1000 timesteps, scaled for other counts (Ho et al. 2020, section 4);
    ``cosine`` has ᾱ(u) = cos²((u + 0.008) / 1.008 · π/2), β clipped at 0.999 (Nichol & Dhariwal 2021, eq. 17).
    """
    if schedule == "linear":
        scale = 1000 / timesteps
        return np.clip(np.linspace(scale * 1e-4, scale * 0.02, timesteps), None, 0.999)
    u = np.arange(timesteps + 1) / timesteps
    alpha_bar = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)


def alphas_bar(config: DiffusionConfig) -> Array:
    r"""ᾱ_t of all training timesteps, float64 (timesteps,).

    With a zero terminal SNR, √ᾱ is shifted and scaled so that the last is 0 and the first stays (Lin et al. 2024,
    algorithm 1).
    """
    levels: Array = np.cumprod(1 - betas(config.schedule, config.timesteps))
    if config.zero_terminal_snr:
        signal = np.sqrt(levels)
        levels = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2
    return levels
