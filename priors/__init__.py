"""Priors over binary codes: p(b), or p(b | g), for b ∈ {0, 1}^D. Arrays of uint8 go in, arrays come out.

A kind is a family of distributions: ``priors.available()`` lists the kinds, ``priors.describe(kind)`` says what one
is and which options it takes, and README.md, next to this file, has their equations.

Whatever the options leave open is chosen on held-out codes. Row i of a sample depends on nothing but the seed, i
and row i of the given bits.

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
from priors.fit import Fit, Report, Rows, Run
from priors.options import option
from priors.registry import automatic, available, create, describe, load, parse_options, register

from priors import kinds  # isort: skip  # noqa: F401  (importing them registers them)

__all__ = [
    "Fit",
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
