"""Latent families: one file each, named as ``model.latent`` names them."""

from __future__ import annotations

from importlib import import_module

from dmzcli.config import ModelConfig
from dmzcli.model.latents.base import ABSENT, Latent, Tokens

__all__ = ["ABSENT", "Latent", "Tokens", "create"]


def create(config: ModelConfig) -> Latent:
    """The latent of a model's settings: the class ``Family`` of the module that is named like ``model.latent``."""
    family: type[Latent] = import_module(f"{__name__}.{config.latent}").Family
    return family(config)
