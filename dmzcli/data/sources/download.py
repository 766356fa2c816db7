"""Fetching what torchvision can fetch; it verifies the checksum of every file."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from dmzcli.errors import UserError
from dmzcli.system.files import user_errors


def through_torchvision(kind: str, folder: Path, how_to_get: str) -> None:
    """Lets ``torchvision.datasets.<kind>`` download into ``folder``.

    Raises:
        UserError: The folder cannot be written, or fetching failed (most often: no network).
    """
    from torchvision import datasets

    with user_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            getattr(datasets, kind)(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        by_hand = how_to_get.partition(" --download, or ")[2] or how_to_get
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"could not download {kind} into {folder}: {reason}", f"by hand: {by_hand}"
        ) from error
