"""Priors over binary codes: p(b), or p(b | g), for b ∈ {0, 1}^D. Arrays of uint8 in, arrays out.

====================  ====================================================================================
kind                  distribution
====================  ====================================================================================
``uniform``           every code equally likely
``bernoulli``         independent bits; given bits act by a logistic regression per bit
``categorical``       independent blocks of bits; given bits act by a softmax regression per block
``chow-liu``          a tree of pairwise dependence; a tree per label, or given bits as parents
``mixture``           a mixture of independent bits; given bits act on its weights
``chow-liu-mixture``  a mixture of trees; given bits act on its weights and may be parents
``autoregressive``    causal networks, each over the bits in an order of its own; given bits are inputs
``masked-diffusion``  bits revealed in a few parallel steps; given bits are inputs; a lower bound
``empirical``         fitted codes with flipped bits, weighted by how near their given bits are; memorises
====================  ====================================================================================

Everything that an option leaves open is chosen on held-out codes. Row i of a sample depends on the seed, i and
row i of what is given alone.

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
