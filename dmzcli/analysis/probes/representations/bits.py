"""The hard bits of the table."""

from __future__ import annotations

import numpy as np

from dmzcli.analysis.probes.representations.base import Array, Representation, Source


class Bits(Representation):
    """D numbers of 0 and 1."""

    name = title = "bits"
    summary = "the table's hard bits"
    transfers = True

    def features(self, source: Source) -> Array:
        return source.table.bits.astype(np.float32)
