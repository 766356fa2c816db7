"""Priors over binary codes: p(b), or p(b | g), for b ∈ {0, 1}^D. Arrays of uint8 in, arrays out.

Example:
    >>> import numpy as np, priors
    >>> bits = (np.random.default_rng(0).random((200, 8)) < 0.3).astype(np.uint8)
    >>> prior = priors.create("bernoulli", dim=8)
    >>> report = prior.fit(bits)
    >>> prior.log_prob(bits).shape, prior.sample(5, seed=1).shape
    ((200,), (5, 8))
"""

from priors.base import Prior
from priors.errors import PriorError
from priors.fitting import Report, Rows, Run
from priors.options import option
from priors.registry import automatic, available, create, describe, load, parse_options, register

# Importing a module of kinds registers them.
from priors import (  # isort: skip  # noqa: F401
    autoregressive,
    bernoulli,
    categorical,
    chow_liu,
    chow_liu_mixture,
    empirical,
    masked_diffusion,
    mixture,
    uniform,
)

__all__ = [
    "Prior",
    "PriorError",
    "Report",
    "Rows",
    "Run",
    "automatic",
    "available",
    "create",
    "describe",
    "load",
    "option",
    "parse_options",
    "register",
]
