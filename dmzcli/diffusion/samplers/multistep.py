r"""Solvers that integrate the diffusion exactly but for x̂_0, over the half log-SNR λ = log(α / σ).

With h = λ_s − λ_t > 0 for a step from t to s, less noisy, the probability-flow ODE has

    x_s = (σ_s / σ_t) x_t + α_s ∫_0^h e^{τ − h} x̂_0(λ_t + τ) dτ.

A constant x̂_0 gives DDIM; better ones extrapolate it in λ from earlier steps. The order falls at the end: λ is infinite
at the image and runs away before it, so that the step to the lowest timestep is often many times as long as the one
before, and a line through two old estimates points anywhere. That step and the last are of first order, whatever the
spacing, as ``lower_order_final`` has it in other implementations for the last step.

References:
    C. Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022,
        arXiv 2211.01095.
    W. Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023,
        arXiv 2302.04867.
"""

from __future__ import annotations

import math

from torch import Tensor

from dmzcli.diffusion.samplers.base import Sampler, Step, register


def _ahead(at: Step) -> float:
    """The step h in λ; infinite to the image."""
    return at.s.half_log_snr - at.t.half_log_snr


def _midpoint(at: Step) -> Tensor:
    """x̂_0 half a step h ahead, on the line through the last two estimates; x̂_0 itself at the start and the end."""
    if not at.past or at.i <= 1:
        return at.predicted.x0
    last = at.past[-1]
    back = at.t.half_log_snr - last.t.half_log_snr
    return at.predicted.x0 + _ahead(at) / (2 * back) * (at.predicted.x0 - last.x0)


@register
class DPMSolver(Sampler):
    """DPM-Solver++(2M): x_s = (σ_s / σ_t) x_t + α_s (1 − e^{−h}) D (Lu et al. 2022, algorithm 2)."""

    name = "dpm++"
    summary = "DPM-Solver++ 2M; second order, deterministic given x_T"
    law = 2  # it ends in first order
    spacing = "leading-quadratic"  # early for the reason that DDIM has, dense where λ is steep

    def step(self, at: Step) -> Tensor:
        return at.s.noise / at.t.noise * at.x - at.s.signal * math.expm1(-_ahead(at)) * _midpoint(at)


@register
class StochasticDPMSolver(Sampler):
    """SDE-DPM-Solver++(2M): x_s = (σ_s / σ_t) e^{−h} x_t + α_s (1 − e^{−2h}) D + σ_s √(1 − e^{−2h}) ξ.

    Lu et al. 2022, section 6 and eq. 19.
    """

    name = "dpm++-sde"
    summary = "SDE-DPM-Solver++ 2M; as dpm++, with fresh noise at every step"
    law = 2
    spacing = "leading-quadratic"
    adds_noise = True

    def step(self, at: Step) -> Tensor:
        h = _ahead(at)
        renewed = -math.expm1(-2 * h)
        x = at.s.noise / at.t.noise * math.exp(-h) * at.x + at.s.signal * renewed * _midpoint(at)
        return x + at.s.noise * math.sqrt(renewed) * at.noise() if at.i else x


@register
class UniPC(DPMSolver):
    """UniPC-2 with B(h) = e^h − 1: the step of ``dpm++``, corrected when the network has been evaluated at its end.

    The evaluation that starts a step also ends the one before, at no cost: x̂_0 is then integrated along the parabola
    through the last three (Zhao et al. 2023, section 3.2, multistep, data prediction). After the first step there are
    two only, and the corrector is the trapezoidal rule. Together they are of third order.
    """

    name = "unipc"
    summary = "UniPC-2; dpm++ with each step corrected by the next evaluation, deterministic given x_T"

    def correct(self, at: Step) -> Tensor:
        if not at.past:
            return at.x
        last = at.past[-1]
        h = at.t.half_log_snr - last.t.half_log_snr
        # The integrals of 1, u and u² over the step, u = τ / h, against the kernel e^{τ − h} dτ.
        phi_0 = -math.expm1(-h)
        phi_1 = 1 - phi_0 / h
        phi_2 = 1 - 2 * phi_1 / h
        rise = at.predicted.x0 - last.x0
        if len(at.past) == 1:
            integral = phi_0 * (last.x0 + rise / 2)
        else:
            older = at.past[0]
            r = (older.t.half_log_snr - last.t.half_log_snr) / h  # where it lies, in units of u: below 0
            slope = (older.x0 - last.x0) / r
            # The parabola through u = r, 0, 1 is x̂_0(0) + b u + c u² with b + c = rise and b + r c = slope.
            c = (rise - slope) / (1 - r)
            integral = phi_0 * last.x0 + phi_1 * (rise - c) + phi_2 * c
        return at.t.noise / last.t.noise * last.x + at.t.signal * integral
