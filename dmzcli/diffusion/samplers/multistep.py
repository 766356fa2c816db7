r"""Solvers that integrate the diffusion exactly but for x̂_0, over the half log-SNR λ = log(α / σ).

With α_t = √ᾱ_t, σ_t² = 1 − ᾱ_t and h = λ_s − λ_t > 0 for a step from t to s, less noisy, the probability-flow ODE has

    x_s = (σ_s / σ_t) x_t + α_s ∫_0^h e^{τ − h} x̂_0(λ_t + τ) dτ.

A constant x̂_0 gives DDIM; better ones extrapolate it in λ from earlier steps. The step to the image itself has σ = 0
and h = ∞, where an extrapolation would run away: it takes the last x̂_0.

References:
    C. Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022,
        arXiv 2211.01095.
    W. Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023,
        arXiv 2302.04867.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from dmzcli.diffusion.process import Prediction
from dmzcli.diffusion.samplers.base import Past, Sampler, register
from dmzcli.diffusion.schedule import half_log_snr


class Exponential(Sampler):
    """What these solvers share: the step from one position to a less noisy one, and x̂_0's slope over λ."""

    def _lambda(self, i: int) -> float:
        return float(half_log_snr(self.process.alphas_bar[i])) if i >= 0 else math.inf

    def _coefficients(self, i: int) -> tuple[float, float, float, float]:
        """α_s, σ_s, σ_s / σ_t and h of the step from position i to i − 1."""
        now, before = float(self.process.alphas_bar[i]), float(self.process.alphas_bar_previous[i])
        sigma = math.sqrt(1 - before)
        return math.sqrt(before), sigma, sigma / math.sqrt(1 - now), self._lambda(i - 1) - self._lambda(i)

    def _midpoint(self, i: int, h: float, x0: Tensor, past: Sequence[Past]) -> Tensor:
        """x̂_0 half a step h ahead of position i, on the line through the last two; else x̂_0 itself."""
        if i == 0 or not past:
            return x0
        back = self._lambda(i) - self._lambda(past[-1].i)
        return x0 + h / (2 * back) * (x0 - past[-1].x0)


class _Multistep(Exponential):
    spacing = "leading"  # for the reason that DDIM has

    def step(
        self,
        x_t: Tensor,
        i: int,
        predicted: Prediction,
        noise: Callable[[], Tensor],
        past: Sequence[Past],
    ) -> Tensor:
        alpha, _, ratio, h = self._coefficients(i)
        return ratio * x_t - alpha * math.expm1(-h) * self._midpoint(i, h, predicted.x0, past)


@register
class DPMSolver(_Multistep):
    """DPM-Solver++(2M): x_s = (σ_s / σ_t) x_t + α_s (1 − e^{−h}) D (Lu et al. 2022, algorithm 2)."""

    name = "dpm++"
    summary = "DPM-Solver++ 2M; second order, deterministic given x_T"


@register
class StochasticDPMSolver(Exponential):
    """SDE-DPM-Solver++(2M): x_s = (σ_s / σ_t) e^{−h} x_t + α_s (1 − e^{−2h}) D + σ_s √(1 − e^{−2h}) ξ.

    Lu et al. 2022, section 6 and eq. 19.
    """

    name = "dpm++-sde"
    summary = "SDE-DPM-Solver++ 2M; as dpm++, with fresh noise at every step"
    adds_noise = True

    def step(
        self,
        x_t: Tensor,
        i: int,
        predicted: Prediction,
        noise: Callable[[], Tensor],
        past: Sequence[Past],
    ) -> Tensor:
        alpha, sigma, ratio, h = self._coefficients(i)
        renewed = -math.expm1(-2 * h)
        x = ratio * math.exp(-h) * x_t + alpha * renewed * self._midpoint(i, h, predicted.x0, past)
        return x + sigma * math.sqrt(renewed) * noise() if i > 0 else x


@register
class UniPC(_Multistep):
    """UniPC-2 with B(h) = e^h − 1: the same step, corrected when the network has been evaluated at its end.

    The evaluation that starts a step also ends the one before, at no cost: x̂_0 is then integrated along the parabola
    through the last three (Zhao et al. 2023, section 3.2, multistep, data prediction). After the first step there are
    two only, and the corrector is the trapezoidal rule. Together they are of third order.
    """

    name = "unipc"
    summary = "UniPC-2; dpm++ with each step corrected by the next evaluation, deterministic given x_T"

    def correct(self, x_t: Tensor, i: int, predicted: Prediction, past: Sequence[Past]) -> Tensor:
        if not past:
            return x_t
        last = past[-1]
        alpha, _, ratio, h = self._coefficients(last.i)
        # The integrals of 1, u and u² over the step, u = τ / h, against the kernel e^{τ − h} dτ.
        phi_0 = -math.expm1(-h)
        phi_1 = 1 - phi_0 / h
        rise = predicted.x0 - last.x0
        if len(past) == 1:
            return ratio * last.x + alpha * phi_0 * (last.x0 + rise / 2)
        phi_2 = 1 - 2 * phi_1 / h
        r = (
            self._lambda(past[0].i) - self._lambda(last.i)
        ) / h  # where the older one lies, in units of u: below 0
        slope = (past[0].x0 - last.x0) / r
        # The parabola through u = r, 0, 1 is x̂_0(0) + b u + c u² with b + c = rise and b + r c = slope.
        c = (rise - slope) / (1 - r)
        return ratio * last.x + alpha * (phi_0 * last.x0 + phi_1 * (rise - c) + phi_2 * c)
