"""The kinds of priors that come with the package; importing it registers them."""

from priors.kinds import (  # noqa: F401
    autoregressive,
    bernoulli,
    categorical,
    chow_liu,
    empirical,
    masked_diffusion,
    mixtures,
    perceptron,
    uniform,
)
