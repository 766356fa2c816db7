"""Fitting pictures to a square: H×W×C ↦ S×S×C, by one of four named rules and never silently.

- ``exact``: the picture is S×S already, or it is refused (S defaults to the first picture's size).
- ``pad``: zeros around the picture, centred; a larger picture is refused.
- ``resize``: a square picture is resampled; another shape is refused.
- ``crop``: the largest centred square is cut out, then resampled.

Resampling is Pillow's bicubic filter, whose support grows with the reduction factor (antialiased).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dmzcli.errors import UserError, did_you_mean

FITS = ("exact", "pad", "resize", "crop")
LARGEST = 4096
"""The largest side of a fitted picture."""


@dataclass(frozen=True)
class Fitting:
    """How pictures become S×S×C.

    Arguments:
        size: S in pixels; None takes the pictures' own size (``fit="exact"`` only).
        fit: One of :data:`FITS`.
        channels: 1 or 3 forces grey or colour; None keeps what is there.
        like: The picture that set the size, where none was asked for.

    Raises:
        UserError: An unknown fit, a size or a number of channels that cannot be, or a missing size.
    """

    size: int | None = None
    fit: str = "exact"
    channels: int | None = None
    like: str = ""

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UserError(
                f"unknown fit '{self.fit}'; expected exact, pad, resize or crop", did_you_mean(self.fit, FITS)
            )
        if self.size is not None and not 1 <= self.size <= LARGEST:
            raise UserError(
                f"size {self.size} is not between 1 and {LARGEST}", "for example --set data.size=32"
            )
        if self.size is None and self.fit != "exact":
            raise UserError(
                f"fit '{self.fit}' needs a size", f"for example --set data.size=32 --set data.fit={self.fit}"
            )
        if self.channels not in (None, 1, 3):
            raise UserError(
                f"channels {self.channels} is neither 1 (grey) nor 3 (colour)", "--set data.channels=1, or 3"
            )

    def pinned(self, picture: np.ndarray, name: str) -> Fitting:
        """This fitting with S set to the height of ``picture``, where S was left open."""
        return self if self.size is not None else replace(self, size=picture.shape[0], like=name)

    def apply(self, picture: np.ndarray, name: str) -> np.ndarray:
        """Fits one picture; its channels stay as they are.

        Arguments:
            picture: uint8, shape (H, W, C).
            name: What an error calls it.

        Returns:
            uint8, shape (S, S, C).

        Raises:
            UserError: The rule refuses the picture.
        """
        height, width = picture.shape[:2]
        size = height if self.size is None else self.size
        if height == width == size:
            return picture
        what = f"{name} is {width} × {height} pixels (width × height)"
        choose = f"--set data.size={self.size or 32} --set data.fit=resize|pad|crop"
        if self.fit == "exact":
            wanted = "square" if self.size is None else f"{size} × {size}"
            wanted += f" like {self.like}" if self.like else ""
            raise UserError(f"{what}, not {wanted}", f"fit the pictures with {choose}")
        if self.fit == "pad":
            if max(height, width) > size:
                raise UserError(
                    f"{what}, too large to pad to {size} × {size}",
                    f"use --set data.fit=crop, or --set data.size={max(height, width)}",
                )
            return _pad(picture, size)
        if self.fit == "resize" and height != width:
            raise UserError(f"{what}, and resizing would distort it", "use --set data.fit=crop, or pad")
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resample(picture[top : top + side, left : left + side], size)

    def apply_all(self, images: np.ndarray, name: str) -> np.ndarray:
        """Fits N pictures of one size, and gives them the channels asked for.

        Arguments:
            images: uint8, shape (N, H, W, C).
            name: What an error calls them.

        Returns:
            uint8, shape (N, S, S, C′).

        Raises:
            UserError: The rule refuses the pictures.
        """
        count, height, width, channels = images.shape
        if height != width or self.size not in (None, height):
            size = self.size or height
            fitted = np.empty((count, size, size, channels), np.uint8)
            self.apply(np.zeros((height, width, channels), np.uint8), name)  # refuses before any work
            for i in range(count):
                fitted[i] = self.apply(images[i], name)
            images = fitted
        return images if self.channels is None else with_channels(images, self.channels)


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Grey to colour by repetition, colour to grey by ITU-R 601 luma (as Pillow rounds it).

    Arguments:
        images: uint8, shape (…, C), C in {1, 3}.
        channels: 1 or 3.

    Returns:
        uint8, shape (…, ``channels``).
    """
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    grey = np.empty((*images.shape[:-1], 1), np.uint8)
    flat, out = images.reshape(-1, 3), grey.reshape(-1)
    for start in range(0, len(flat), 1 << 20):  # in pieces: the sums need four bytes a value
        part = flat[start : start + (1 << 20)].astype(np.uint32)
        out[start : start + (1 << 20)] = (part @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16
    return grey


def _pad(picture: np.ndarray, size: int) -> np.ndarray:
    height, width, channels = picture.shape
    top, left = (size - height) // 2, (size - width) // 2
    padded = np.zeros((size, size, channels), np.uint8)
    padded[top : top + height, left : left + width] = picture
    return padded


def _resample(picture: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    channels = picture.shape[2]
    image = Image.fromarray(np.ascontiguousarray(picture[..., 0] if channels == 1 else picture))
    resized = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    return resized[..., None] if channels == 1 else resized
