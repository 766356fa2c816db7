"""Bits revealed a few at a time by a network; torch is imported when one is fitted or loaded."""

from priors.kinds.masked_diffusion import prior  # noqa: F401
