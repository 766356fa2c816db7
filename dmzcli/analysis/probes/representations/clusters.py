"""The index of one k-means cluster as a one-hot code, as wide as there are bits."""

from __future__ import annotations

import numpy as np

from dmzcli.analysis.probes.representations.base import Array, Representation, Source
from dmzcli.data.dataset import spread


class Clusters(Representation):
    """K = D clusters of the pixels' components: as many numbers as bits, which tell log2 D bits."""

    name = "kmeans"
    title = "k-means, as wide"
    summary = "one-hot index of k-means with as many clusters as there are bits"
    needs_images = True

    def features(self, source: Source) -> Array:
        return one_hot(source.components, source.train, source.table.dim, source.seed)


FIT_ROWS = 20_000
"""Training rows, evenly spread, that centers are fitted to."""


def one_hot(points: Array, train: Array, clusters: int, seed: int) -> Array:
    """One-hot indices of the nearest of at most ``clusters`` centers, fitted on the rows ``train``, float32 (N, K)."""
    from sklearn.cluster import MiniBatchKMeans

    fitted = points[spread(train, FIT_ROWS)]
    count = min(clusters, len(fitted))
    model = MiniBatchKMeans(count, n_init=1, batch_size=2048, max_iter=5, random_state=seed)
    indices = model.fit(fitted).predict(points)
    return np.eye(count, dtype=np.float32)[indices]
