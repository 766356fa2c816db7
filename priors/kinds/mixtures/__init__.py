"""Mixtures of simple distributions, fitted by expectation maximization."""

from priors.kinds.mixtures import bernoulli, trees  # noqa: F401
