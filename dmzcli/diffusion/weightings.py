r"""What a timestep's squared error counts, by name.

A weighting is a function w of the SNR = α² / σ² for errors in x_0. An error in ε is the same one times √SNR, and one in
v times √(SNR + 1); so w / SNR and w / (SNR + 1) are what these count.

=======================  =========================================================================
weighting                w in x_0
=======================  =========================================================================
``plain``                1 in what is predicted: SNR (ε), SNR + 1 (v), 1 (x_0)
``min-snr``              min(SNR, γ) (T. Hang et al., "Efficient Diffusion Training via Min-SNR
                         Weighting Strategy", 2023, arXiv 2303.09556, section 3.4)
``edm``                  SNR + 1 / σ_data² (T. Karras et al., "Elucidating the Design Space of
                         Diffusion-Based Generative Models", 2022, arXiv 2206.00364, table 1)
``learned-uncertainty``  as ``plain``; the trainer learns a factor for each noise level
=======================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dmzcli.config import DiffusionConfig

Array = np.ndarray


def _min_snr(snr: Array, config: DiffusionConfig) -> Array:
    bounded: Array = np.minimum(snr, config.min_snr_gamma)
    return bounded


def _edm(snr: Array, config: DiffusionConfig) -> Array:
    # (s² + σ_data²) / (s σ_data)² at the noise level s = σ / α
    return snr + 1 / config.sigma_data**2


IN_X0: dict[str, Callable[[Array, DiffusionConfig], Array]] = {"min-snr": _min_snr, "edm": _edm}


def weights(config: DiffusionConfig, alphas_bar: Array) -> Array:
    """What the squared error in the predicted quantity counts at each timestep, float64 (T,)."""
    if config.weighting not in IN_X0:
        return np.ones_like(alphas_bar)
    snr = alphas_bar / (1 - alphas_bar)
    in_x0 = {"epsilon": snr, "v": snr + 1, "x0": np.ones_like(snr)}[config.prediction]
    return IN_X0[config.weighting](snr, config) / in_x0
