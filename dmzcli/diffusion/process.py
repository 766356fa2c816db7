r"""The forward process q(x_t | x_0) = N(α_t x_0, σ_t² I), its posterior, and the training losses.

Signal α_t and noise σ_t are all that solvers, spacings and bounds see of it, and λ_t = log(α_t / σ_t), half the
log-SNR. Here α_t² = ᾱ_t = Π_{s ≤ t} (1 − β_s) and σ_t² = 1 − ᾱ_t, with the variances β_t of the single steps, which
only the DDPM's posterior q(x_{t−1} | x_t, x_0) needs. Timesteps count from 0 (least noise) to T − 1. A *respaced*
process keeps a subset of them and recomputes β from the ᾱ that are kept, so that fewer, larger steps have the same
marginals.

References:
    J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", 2020, arXiv 2006.11239.
    A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, arXiv 2102.09672.
    T. Salimans, J. Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", 2022, arXiv 2202.00512.
    M. Ning et al., "Input Perturbation Reduces Exposure Bias in Diffusion Models", 2023, arXiv 2301.11706.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.schedule import alphas_bar
from dmzcli.diffusion.thresholds import Threshold, clip
from dmzcli.diffusion.weightings import weights

Array = np.ndarray


class Level(NamedTuple):
    """How much signal and noise is in x_t = α x_0 + σ ε."""

    signal: float  # α
    noise: float  # σ

    @property
    def half_log_snr(self) -> float:
        """λ = log(α / σ), infinite at the image, −∞ where there is noise alone."""
        if not self.signal:
            return -math.inf
        return math.log(self.signal) - math.log(self.noise) if self.noise else math.inf


IMAGE = Level(1.0, 0.0)


class Prediction(NamedTuple):
    """What the network's output says at one timestep; all (B, C, H, W)."""

    x0: Tensor
    epsilon: Tensor
    mean: Tensor  # of p(x_{t-1} | x_t)
    log_variance: Tensor


def _normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    difference = log_variance1 - log_variance2
    return 0.5 * (-1 - difference + difference.exp() + (mean1 - mean2) ** 2 * torch.exp(-log_variance2))


def _normal_cdf(x: Tensor) -> Tensor:
    # The tanh approximation of I-DDPM, kept so that bounds agree with published ones digit for digit.
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _discretized_nll(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """−log of the mass that N(mean, e^{2 log_scale}) gives to each of the 256 gray levels of x ∈ [−1, 1]."""
    inverse = torch.exp(-log_scale)
    above = _normal_cdf(inverse * (x - mean + 1 / 255))
    below = _normal_cdf(inverse * (x - mean - 1 / 255))
    inside = (above - below).clamp_min(1e-12).log()
    lowest, highest = above.clamp_min(1e-12).log(), (1 - below).clamp_min(1e-12).log()
    return -torch.where(x < -0.999, lowest, torch.where(x > 0.999, highest, inside))


class Diffusion:
    """A (possibly respaced) forward process, and what follows from a network's output.

    Arguments:
        config: Schedule, variance type, and what the network predicts.
        timesteps: The timesteps to keep, ascending; ``None`` keeps all.

    Attributes:
        timesteps: int64 (T,), on the scale that the network was trained on.
        signal, noise, half_log_snr: α, σ and λ, float64 (T,).
        betas, alphas_bar, posterior_variance: What the DDPM's posterior needs, float64 (T,).
    """

    def __init__(self, config: DiffusionConfig, timesteps: Array | None = None) -> None:
        self.config = config
        full = alphas_bar(config)
        self.timesteps = np.arange(config.timesteps) if timesteps is None else np.asarray(timesteps)
        self.alphas_bar = full[self.timesteps]
        self.signal, self.noise = np.sqrt(self.alphas_bar), np.sqrt(1 - self.alphas_bar)
        with np.errstate(divide="ignore"):  # no signal: −∞
            self.half_log_snr = np.log(self.signal) - np.log(self.noise)
        previous = np.append(1.0, self.alphas_bar[:-1])
        self.betas = 1 - self.alphas_bar / previous
        self.posterior_variance = self.betas * (1 - previous) / (1 - self.alphas_bar)
        self.posterior_mean_coef1 = self.betas * np.sqrt(previous) / (1 - self.alphas_bar)
        self.posterior_mean_coef2 = (1 - previous) * np.sqrt(1 - self.betas) / (1 - self.alphas_bar)
        # The posterior variance is 0 at the first step: its logarithm is clipped to the second's.
        second = self.posterior_variance[1] if len(self) > 1 else self.betas[0]
        self.posterior_log_variance = np.log(np.append(second, self.posterior_variance[1:]))
        self._tables = {
            "signal": self.signal,
            "noise": self.noise,
            "coef1": self.posterior_mean_coef1,
            "coef2": self.posterior_mean_coef2,
            "posterior": self.posterior_log_variance,
            "beta": np.log(self.betas),
            "large": np.log(np.append(second, self.betas[1:])),
            "weight": weights(config, self.alphas_bar),
        }
        self._on_device: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def __len__(self) -> int:
        return len(self.timesteps)

    def level(self, i: int) -> Level:
        """Signal and noise at position ``i`` in :attr:`timesteps`; of the image itself at −1."""
        return Level(float(self.signal[i]), float(self.noise[i])) if i >= 0 else IMAGE

    def _at(self, name: str, index: Tensor, like: Tensor) -> Tensor:
        """A table's values at positions ``index``, as (B, 1, 1, 1)."""
        # Tables are float64; a device gets each once, in the precision that it computes in (MPS has no float64).
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        key = (name, index.device, dtype)
        if key not in self._on_device:
            self._on_device[key] = torch.from_numpy(self._tables[name]).to(dtype).to(index.device)
        return self._on_device[key][index][:, None, None, None]

    def model_timesteps(self, index: Tensor) -> Tensor:
        """The training timesteps at positions ``index`` (B,)."""
        return torch.from_numpy(self.timesteps).to(index.device)[index]

    def add_noise(self, x0: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """x_t = α_t x_0 + σ_t ε for positions ``index`` (B,)."""
        signal = self._at("signal", index, x0)
        return signal * x0 + self._at("noise", index, x0) * noise

    def posterior_mean(self, x0: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """The mean of q(x_{t−1} | x_t, x_0) (Ho et al. 2020, eq. 7)."""
        return self._at("coef1", index, x0) * x0 + self._at("coef2", index, x0) * x_t

    def target(self, x0: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """What the network is to predict: ε, x_0, or v = α_t ε − σ_t x_0 (Salimans & Ho 2022, appendix D)."""
        if self.config.prediction == "epsilon":
            return noise
        if self.config.prediction == "x0":
            return x0
        return self._at("signal", index, x0) * noise - self._at("noise", index, x0) * x0

    def _estimates(self, output: Tensor, x_t: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """x̂_0 and ε̂ of what the network predicts."""
        signal, sigma = self._at("signal", index, x_t), self._at("noise", index, x_t)
        if self.config.prediction == "epsilon":
            return (x_t - sigma * output) / signal, output
        if self.config.prediction == "x0":
            return output, (x_t - signal * output) / sigma
        return signal * x_t - sigma * output, sigma * x_t + signal * output

    def predict(
        self, output: Tensor, x_t: Tensor, index: Tensor, threshold: Threshold | None = clip
    ) -> Prediction:
        """Turns a network output into x̂_0, ε̂ and the parameters of p(x_{t−1} | x_t).

        Arguments:
            output: (B, C or 2C, H, W); the second half interpolates the log variance where it is learned.
            x_t: (B, C, H, W).
            index: Positions in :attr:`timesteps`, (B,).
            threshold: Bounds x̂_0, and ε̂ with it; ``None`` leaves both.
        """
        channels = x_t.shape[1]
        x0, epsilon = self._estimates(output[:, :channels].to(x_t.dtype), x_t, index)
        if threshold is not None:
            x0 = threshold(x0)
            epsilon = (x_t - self._at("signal", index, x_t) * x0) / self._at("noise", index, x_t)
        low = self._at("posterior", index, x_t)
        if self.config.variance == "learned-range":  # Nichol & Dhariwal 2021, eq. 15
            high = self._at("beta", index, x_t)
            fraction = (output[:, channels:].to(x_t.dtype) + 1) / 2
            log_variance = fraction * high + (1 - fraction) * low
        elif self.config.variance == "fixed-large":
            log_variance = self._at("large", index, x_t).expand_as(x_t)
        else:
            log_variance = low.expand_as(x_t)
        return Prediction(x0, epsilon, self.posterior_mean(x0, x_t, index), log_variance)

    def variational_term(
        self, output: Tensor, x0: Tensor, x_t: Tensor, index: Tensor, threshold: Threshold | None
    ) -> Tensor:
        """L_t of the variational bound in bits per dimension, (B,) (Ho et al. 2020, eq. 5).

        KL(q(x_{t−1} | x_t, x_0) ‖ p) for t > 0; the discretized decoder's −log p(x_0 | x_1) for t = 0.
        """
        predicted = self.predict(output, x_t, index, threshold)
        kl = _normal_kl(
            self.posterior_mean(x0, x_t, index),
            self._at("posterior", index, x_t),
            predicted.mean,
            predicted.log_variance,
        ).flatten(1)
        nll = _discretized_nll(x0, predicted.mean, 0.5 * predicted.log_variance).flatten(1)
        return torch.where(index == 0, nll.mean(1), kl.mean(1)) / math.log(2)

    def losses(
        self, output: Tensor, x0: Tensor, x_t: Tensor, index: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Training losses per image.

        Returns:
            ``mse``, ‖ε − ε̂‖² (or that of v or x_0, whichever is predicted) averaged over dimensions, (B,); with a
            learned variance also ``vb``, the rescaled variational term (T / 1000) L_t whose mean is held fixed
            (Nichol & Dhariwal 2021, eq. 16); and ``loss``, their sum with the weight of ``diffusion.weighting`` on
            ``mse``, see :mod:`dmzcli.diffusion.weightings`.
        """
        channels = x0.shape[1]
        output = output.float()
        target = self.target(x0, noise, index)
        error = ((target - output[:, :channels]) ** 2).flatten(1).mean(1)
        terms = {"mse": error}
        if self.config.variance == "learned-range":
            frozen = torch.cat([output[:, :channels].detach(), output[:, channels:]], dim=1)
            terms["vb"] = self.variational_term(frozen, x0, x_t, index, threshold=None) * len(self) / 1000
        weighted = {**terms, "mse": error * self._at("weight", index, error).flatten()}
        terms["loss"] = torch.stack(list(weighted.values())).sum(0)
        return terms
