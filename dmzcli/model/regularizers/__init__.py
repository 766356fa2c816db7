"""Regularizers of the code, all off by default: one file each, named as ``training`` names their weights."""

from __future__ import annotations

from dmzcli.config import TrainingConfig
from dmzcli.model.regularizers.base import Regularizer
from dmzcli.model.regularizers.decorrelation import Decorrelation
from dmzcli.model.regularizers.entropy import Entropy

__all__ = ["REGULARIZERS", "Regularizer", "create"]

REGULARIZERS: dict[str, type[Regularizer]] = {"entropy": Entropy, "decorrelation": Decorrelation}


def create(config: TrainingConfig) -> dict[str, tuple[float, Regularizer]]:
    """Weight and regularizer by name, of those that have a weight."""
    weights = {name: float(getattr(config, name)) for name in REGULARIZERS}
    return {name: (weight, REGULARIZERS[name]()) for name, weight in weights.items() if weight}
