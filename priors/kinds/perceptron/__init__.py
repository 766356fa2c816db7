"""Independent bits by a network of the given bits; torch is imported when one is fitted or loaded."""

from priors.kinds.perceptron import prior  # noqa: F401
