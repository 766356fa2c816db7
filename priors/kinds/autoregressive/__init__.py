"""Each bit from the bits before it, by causal networks; torch is imported when one is fitted or loaded."""

from priors.kinds.autoregressive import prior  # noqa: F401
