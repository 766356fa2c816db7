"""Bits of the same encoder as it is initialized."""

from __future__ import annotations

import numpy as np
import torch

from dmzcli.analysis.probes.representations.base import Array, Representation, Source
from dmzcli.codes.encode import bits_of
from dmzcli.config import Config
from dmzcli.data import Dataset
from dmzcli.model.autoencoder import build


class Untrained(Representation):
    """What the architecture alone makes readable."""

    name = "untrained"
    title = "untrained bits"
    summary = "bits of the same encoder, untrained"
    needs_images = needs_config = True

    def features(self, source: Source) -> Array:
        assert source.dataset is not None and source.config is not None
        bits = untrained_bits(source.config, source.dataset, source.device)
        return bits[source.table.index, : source.table.dim].astype(np.float32)  # as many as a prefix has


def untrained_bits(config: Config, dataset: Dataset, device: torch.device, batch_size: int = 512) -> Array:
    """Bits of the same encoder as it is initialized, uint8 (N, D).

    Its batch-norm statistics are measured on the training images, as training would: without that, an untrained
    encoder's bits are nearly constant and the baseline is a straw man.
    """
    model = build(config).to(device).eval()
    model.remeasure(dataset.images, dataset.rows("train"), batch_size)
    return bits_of(model, dataset.images, batch_size)
