"""Cluster indices of as many bits in all: product quantization.

H. Jégou, M. Douze, C. Schmid: Product Quantization for Nearest Neighbor Search, 2011, https://doi.org/10.1109/TPAMI.2010.57.
"""

from __future__ import annotations

import numpy as np

from dmzcli.analysis.probes.representations.base import Array, Representation, Source
from dmzcli.analysis.probes.representations.clusters import one_hot

BITS = 4
"""Bits of one index."""


class ProductClusters(Representation):
    """D/4 k-means of 16 clusters, each of its share of the pixels' components: an index of D bits, one-hot."""

    name = "pq"
    title = "k-means, as many bits"
    summary = "one-hot indices of as many k-means of 16 clusters as make up the number of bits"
    needs_images = True

    def features(self, source: Source) -> Array:
        points = source.components
        groups = min(-(-source.table.dim // BITS), points.shape[1])
        # Components are dealt out in turns, so that each group has strong and weak ones.
        return np.concatenate(
            [
                one_hot(np.ascontiguousarray(points[:, group::groups]), source.train, 1 << BITS, source.seed)
                for group in range(groups)
            ],
            axis=1,
        )
