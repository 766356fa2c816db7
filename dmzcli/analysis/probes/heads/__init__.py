"""Probe heads: one file each, and one line here. Other packages add theirs by entry points of ``dmz.heads``."""

from __future__ import annotations

from typing import Any

from dmzcli.analysis.probes.heads.base import Head
from dmzcli.analysis.probes.heads.logistic import Logistic
from dmzcli.analysis.probes.heads.mlp import Perceptron
from dmzcli.analysis.probes.heads.neighbors import Neighbors
from dmzcli.system.registry import Registry, check_texts

__all__ = ["HEADS", "Head"]


def _check(given: Any) -> type[Head]:
    if not (isinstance(given, type) and issubclass(given, Head)):
        raise TypeError(f"{given!r} is no subclass of dmzcli.analysis.probes.heads.Head")
    check_texts(given, given.__name__)
    return given


HEADS: Registry[type[Head]] = Registry("head", _check)
for _head in (Logistic, Neighbors, Perceptron):
    HEADS.add(_head)
