"""The soft probabilities q(z = 1 | x) that the bits are rounded from."""

from __future__ import annotations

import numpy as np

from dmzcli.analysis.probes.representations.base import Array, Representation, Source
from dmzcli.errors import UserError


class Probabilities(Representation):
    """D numbers in [0, 1]: what rounding them to bits loses."""

    name = "probs"
    title = "probabilities"
    summary = "q(z = 1 | x) of every bit, before it is rounded"
    transfers = True

    def features(self, source: Source) -> Array:
        if source.table.probs is None:
            raise UserError("the bit table has no probabilities", "encode anew with dmz encode")
        return source.table.probs.astype(np.float32)
