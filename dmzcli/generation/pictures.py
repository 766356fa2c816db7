"""Pictures of the user's own, as a model takes its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmzcli.data.crops import Crop, with_channels
from dmzcli.data.formats.picture import decode
from dmzcli.errors import UserError
from dmzcli.system.reading import UNPACKED_BYTES, read_bytes

Array = np.ndarray


def read_picture(path: Path, shape: Sequence[int], fit: str) -> tuple[Array, bool]:
    """A picture file, fitted to a model's images; color becomes gray or gray color where the model's images are.

    Arguments:
        path: The file.
        shape: (C, S, S) of the model's images.
        fit: One of :data:`dmzcli.data.crops.FITS`.

    Returns:
        uint8 (S, S, C), and whether the file's format is lossy.

    Raises:
        UserError: It is no picture, or of another size that ``fit`` does not change.
    """
    picture, lossy = decode(read_bytes(path, UNPACKED_BYTES), str(path))
    return fit_picture(picture, str(path), shape, fit), lossy


def fit_picture(picture: Array, name: str, shape: Sequence[int], fit: str) -> Array:
    """A picture (H, W, 1 or 3), fitted to a model's images.

    Arguments:
        picture: uint8.
        name: What messages call it.
        shape, fit: As for :func:`read_picture`.

    Returns:
        uint8 (S, S, C).

    Raises:
        UserError: It is of another size that ``fit`` does not change.
    """
    channels, size, _ = shape
    try:
        fitted = Crop(size=size, fit=fit).apply(picture, name)
    except UserError as error:
        raise UserError(error.message, "choose how it is fitted: --fit resize, pad or crop") from error
    return with_channels(fitted, channels)


def read_pictures(paths: Sequence[Path], shape: Sequence[int], fit: str) -> tuple[Array, bool]:
    """Several files, uint8 (N, S, S, C), and whether any is lossy; see :func:`read_picture`."""
    read = [read_picture(path, shape, fit) for path in paths]
    return np.stack([image for image, _ in read]), any(lossy for _, lossy in read)
