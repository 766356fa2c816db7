"""Estimators: one file each, named as ``model.estimator`` names them, with ``_`` for ``-``."""

from __future__ import annotations

from importlib import import_module

from dmzcli.model.estimators.base import Estimator, Values

__all__ = ["Estimator", "Values", "create"]


def create(name: str) -> Estimator:
    """The estimator of a name in the settings: the class ``Rule`` of the module that is named like it."""
    rule: type[Estimator] = import_module(f"{__name__}.{name.replace('-', '_')}").Rule
    return rule()
