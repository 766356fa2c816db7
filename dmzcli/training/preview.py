"""What a model can do so far, as one picture."""

from __future__ import annotations

import numpy as np
import torch

from dmzcli.codes.encode import bits_of
from dmzcli.data.dataset import spread
from dmzcli.diffusion.samplers import create
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.png import labelled_rows
from dmzcli.system.randomness import stream

COLUMNS = 10
STEPS = 20


@torch.no_grad()
def preview(model: Autoencoder, images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A grid of three rows: images, their reconstructions, and images from bits drawn by their marginals.

    Arguments:
        model: The model, in evaluation mode; one without a latent fills the rows with samples.
        images: uint8 (N, H, W, C), ten of which are shown.
        others: uint8 (M, H, W, C), whose bits have the marginals.

    Returns:
        uint8 (H', W', 3), each row under its name.
    """
    config = model.config.diffusion
    sampler = create("ancestral", config, min(STEPS, config.timesteps))
    if not model.dim:
        samples = decode(model, None, sampler, range(3 * COLUMNS), 0)
        starts = range(0, len(samples), COLUMNS)
        return labelled_rows([("samples", samples[i : i + COLUMNS]) for i in starts], COLUMNS)
    shown = spread(images, COLUMNS)
    free = (stream("preview").random((len(shown), model.dim)) < bits_of(model, others).mean(0)).astype(
        np.uint8
    )
    decoded = decode(model, bits_of(model, shown), sampler, range(len(shown)), 0)
    samples = decode(model, free, sampler, range(len(shown)), 1)
    rows = [("images", shown), ("reconstructions", decoded), ("samples of independent bits", samples)]
    return labelled_rows(rows, len(shown))
