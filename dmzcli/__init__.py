"""Diffusion autoencoders with binary latents: images ↔ bits, bits → images in few steps.

Three nouns carry the package: the *autoencoder* (:mod:`dmzcli.model.autoencoder`), the *prior* over its
bits (the separate package :mod:`priors`) and the *sampler* (:mod:`dmzcli.diffusion.samplers`).
:func:`load` puts them together: a trained run as an object that encodes, decodes and samples.
"""

from __future__ import annotations

from dmzcli.version import __version__

TYPE_CHECKING = False  # typing and pathlib take longer than all the rest of ``dmz`` until it hears signals
if TYPE_CHECKING:
    from pathlib import Path

    from dmzcli.library import Model, Translator

__all__ = ["__version__", "load", "load_pair"]


def load(run: str | Path, device: str | None = None) -> Model:
    """Loads a trained run: its autoencoder, and through it the priors that were fitted to its bits.

    Arguments:
        run: The run's directory, such as ``runs/digits``.
        device: ``cpu``, ``cuda``, ``cuda:0``, … or ``mps``; by default the best there is.

    Returns:
        The model, with ``encode``, ``decode``, ``invert`` and ``sample``.

    Raises:
        UserError: The directory is no run, its weights are missing or damaged, or there is no such device.
    """
    from dmzcli.library import Model  # torch is imported here, and not by ``import dmzcli``

    return Model(run, device)


def load_pair(
    name: str, direction: str = "A-to-B", prior: str | None = None, device: str | None = None
) -> Translator:
    """Loads a pair of runs and the map between their bits, which translates images of one side into the other's.

    Arguments:
        name: The pair's name, such as ``shoes`` of ``runs/shoes-A`` and ``runs/shoes-B``; or a path without the side.
        direction: ``A-to-B`` or ``B-to-A``.
        prior: The map, by its kind, its name in the target's run, or its folder; by default the newest.
        device: ``cpu``, ``cuda``, ``cuda:0``, … or ``mps``; by default the best there is.

    Returns:
        The translator, with ``translate``: uint8 (N, H, W, C) to uint8 (N, n, H′, W′, C′).

    Raises:
        UserError: A side or the map is missing, or they are not of each other.
    """
    from dmzcli.library import Translator

    return Translator.load(name, direction, prior, device)
