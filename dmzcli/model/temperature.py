r"""The estimator's temperature over the steps of training.

From τ₀ (``model.temperature``) to τ₁ (``model.temperature_end``) in N steps (``model.temperature_steps``), and τ₁ from
there on:

    linear       τ_n = τ₀ + (τ₁ − τ₀) n / N
    exponential  τ_n = τ₀ (τ₁ / τ₀)^{n / N}, E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144

N is a setting of its own, and no share of all steps: a run that is lengthened goes on as it was.
"""

from __future__ import annotations

from dmzcli.config import ModelConfig


def temperature(config: ModelConfig, step: int) -> float:
    """τ_n after ``step`` steps."""
    start, end = config.temperature, config.temperature_end
    share = min(step / config.temperature_steps, 1.0)
    if config.temperature_schedule == "linear":
        return start + (end - start) * share
    if config.temperature_schedule == "exponential":
        return start * (end / start) ** share
    return start
