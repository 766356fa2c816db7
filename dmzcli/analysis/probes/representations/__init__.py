"""What is probed: one file each, and one line here. Other packages use entry points of ``dmz.representations``."""

from __future__ import annotations

from typing import Any

from dmzcli.analysis.probes.representations.base import Representation, Source
from dmzcli.analysis.probes.representations.bits import Bits
from dmzcli.analysis.probes.representations.clusters import Clusters
from dmzcli.analysis.probes.representations.components import Components
from dmzcli.analysis.probes.representations.pixels import Pixels
from dmzcli.analysis.probes.representations.probabilities import Probabilities
from dmzcli.analysis.probes.representations.product_clusters import ProductClusters
from dmzcli.analysis.probes.representations.untrained import Untrained
from dmzcli.system.registry import Registry, check_texts

__all__ = ["REPRESENTATIONS", "Representation", "Source"]


def _check(given: Any) -> type[Representation]:
    if not (isinstance(given, type) and issubclass(given, Representation)):
        raise TypeError(f"{given!r} is no subclass of dmzcli.analysis.probes.representations.Representation")
    check_texts(given, given.__name__)
    return given


REPRESENTATIONS: Registry[type[Representation]] = Registry("representation", _check)
for _representation in (Bits, Untrained, Pixels, Probabilities, Components, Clusters, ProductClusters):
    REPRESENTATIONS.add(_representation)
