"""The pixels themselves."""

from __future__ import annotations

from dmzcli.analysis.probes.representations.base import Array, Representation, Source


class Pixels(Representation):
    """H·W·C numbers in [0, 1]."""

    name = title = "pixels"
    summary = "the pixels, in [0, 1]"
    needs_images = True

    def features(self, source: Source) -> Array:
        return source.pixels
