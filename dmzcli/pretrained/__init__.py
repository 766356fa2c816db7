"""Weights that others trained, as the start of a run.

Two layouts are read: a state dict of improved-diffusion or guided-diffusion (one file), and a folder of
diffusers' ``UNet2DModel``. Each reader gives the same thing, :class:`Weights`: settings, and tensors under
the names of our own U-Net. What our U-Net cannot compute exactly is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmzcli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from dmzcli.pretrained.weights import Weights

ORDERS = ("by-head", "by-role")
"""Of the rows of q, k, v in a state dict."""


def check(
    path: Path,
    size: int | None = None,
    heads: int | None = None,
    head_channels: int | None = None,
    order: str = "by-head",
) -> None:
    """Refuses arguments of :func:`read` that need no look into the file to be wrong, and imports no torch for it.

    Raises:
        UserError: There is nothing at ``path``, or too little or too much was said about it.
    """
    if order not in ORDERS:
        raise UserError(f"unknown --attention-order '{order}'", did_you_mean(order, ORDERS))
    if not path.exists():
        raise UserError(f"{path} does not exist", "check the path; dmz downloads no weights")
    if not path.is_dir() and size is None:
        raise UserError(
            f"the weights in {path} do not say the size of their images",
            "give it with --size (improved-diffusion's image_size)",
        )
    if heads is not None and head_channels is not None:
        raise UserError(
            f"--heads {heads} and --head-channels {head_channels} were both given", "give one of them"
        )


def read(
    path: Path,
    size: int | None = None,
    heads: int | None = None,
    head_channels: int | None = None,
    order: str = "by-head",
) -> Weights:
    """Reads whichever of the two layouts is at ``path``.

    Arguments:
        path: A file is a state dict, a folder is diffusers'.
        size, heads, head_channels, order: Facts that a state dict lacks, see :func:`read_openai`; a folder says them.

    Raises:
        UserError: There is nothing there, it is something else, or too little or too much was said about it.
    """
    check(path, size, heads, head_channels, order)
    from dmzcli.pretrained.diffusers import read_unet2d
    from dmzcli.pretrained.openai import read_openai

    if size is not None and not path.is_dir():
        return read_openai(path, size, heads, head_channels, order)
    foreign = read_unet2d(path)
    given: dict[str, int | str | None] = {"--heads": heads, "--head-channels": head_channels}
    given |= {"--attention-order": None if order == "by-head" else order}
    if size not in (None, foreign.settings["data"]["size"]):
        given["--size"] = size
    for option, value in given.items():
        if value is not None:
            raise UserError(
                f"{option} {value} was given, but the folder {path} says that itself", f"leave {option} out"
            )
    return foreign
