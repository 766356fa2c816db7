"""Principal components of the pixels, as many as there are bits."""

from __future__ import annotations

from dmzcli.analysis.probes.representations.base import Array, Representation, Source


class Components(Representation):
    """D real numbers, which can hold far more than D bits."""

    name = "pca"
    title = "PCA of pixels"
    summary = "principal components of the pixels, as many numbers as there are bits"
    needs_images = True

    def features(self, source: Source) -> Array:
        return source.components
