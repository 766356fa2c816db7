"""Crops: a picture H×W×C becomes a square S×S×C, by one of the named rules and never silently.

- ``exact``: the picture is S×S already, or it is refused (S defaults to the first picture's size).
- ``pad``: zeros around the picture, centered; a larger picture is refused.
- ``resize``: a square picture is resampled; another shape is refused.
- ``crop``: the largest centered square is cut out, then resampled.

Published scores on CelebA differ by how its 178×218 pictures became squares, so these go by their names:

- ``d2c``: rows 57 to 184 and columns 25 to 152 of an aligned CelebA picture (any other size is refused), then S×S,
  bilinear; the crop of D2C (A. Sinha et al. 2021) and DiffAE (K. Preechakul et al. 2022).
- ``resize-center``: the short side to S, bilinear, then the center: torchvision's ``Resize(S)``, ``CenterCrop(S)``.
- ``adm``: halved by a box filter while the short side is 2S or more, the short side to S, bicubic, then the center;
  the preprocessing of ADM (P. Dhariwal, A. Nichol 2021).
- ``squash``: to S×S whatever the shape, bilinear: torchvision's ``Resize((S, S))``.

Resampling is Pillow's, whose filters widen with the reduction factor (antialiased); bicubic unless stated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dmzcli.errors import UserError, did_you_mean

FITS = ("exact", "pad", "resize", "crop", "resize-center", "d2c", "adm", "squash")
CELEBA = (218, 178)
"""Height and width of an aligned CelebA picture."""
PAIR = "; of two pictures side by side take one with --set data.side=A (the left) or B"
"""The end of a hint about a picture whose halves are nearly square."""
LARGEST = 4096
"""The largest side of a fitted picture."""


@dataclass(frozen=True)
class Crop:
    """How pictures become S×S×C.

    Arguments:
        size: S in pixels; None takes the pictures' own size (``fit="exact"`` only).
        fit: One of :data:`FITS`.
        channels: 1 or 3 forces gray or color; None keeps what is there.
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
                f"unknown fit '{self.fit}'; expected {', '.join(FITS[:-1])} or {FITS[-1]}",
                did_you_mean(self.fit, FITS),
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
                f"channels {self.channels} is neither 1 (gray) nor 3 (color)", "--set data.channels=1, or 3"
            )

    def pinned(self, picture: np.ndarray, name: str) -> Crop:
        """This crop with S set to the height of ``picture``, where S was left open."""
        return self if self.size is not None else replace(self, size=picture.shape[0], like=name)

    def apply(self, picture: np.ndarray, name: str) -> np.ndarray:
        """Fits one picture; its channels stay as they are.

        Arguments:
            picture: uint8, shape (H, W, C).
            name: The picture's name in errors.

        Returns:
            uint8, shape (S, S, C).

        Raises:
            UserError: The rule refuses the picture.
        """
        height, width = picture.shape[:2]
        size = height if self.size is None else self.size
        what = f"{name} is {width} × {height} pixels (width × height)"
        if self.fit == "d2c":
            if (height, width) != CELEBA:
                raise UserError(
                    f"{what}, but d2c is a crop of CelebA's aligned pictures of 178 × 218",
                    "use --set data.fit=resize, crop or adm",
                )
            return _resample(picture[57:185, 25:153], (size, size), "BILINEAR")
        if height == width == size:
            return picture
        choose = f"--set data.size={self.size or 32} --set data.fit=resize|pad|crop"
        pair = PAIR if width % 2 == 0 and 3 / 4 < width / 2 / height < 4 / 3 else ""
        if self.fit == "exact":
            expected = "square" if self.size is None else f"{size} × {size}"
            expected += f" like {self.like}" if self.like else ""
            if (height, width) == CELEBA:
                choose = f"--set data.size={self.size or 64} --set data.fit=d2c|resize-center|adm|squash"
            raise UserError(f"{what}, not {expected}", f"fit the pictures with {choose}{pair}")
        if self.fit == "pad":
            if max(height, width) > size:
                raise UserError(
                    f"{what}, too large to pad to {size} × {size}",
                    f"use --set data.fit=crop, or --set data.size={max(height, width)}{pair}",
                )
            return _pad(picture, size)
        if self.fit == "resize" and height != width:
            raise UserError(
                f"{what}, and resizing would distort it", f"use --set data.fit=crop, or pad{pair}"
            )
        if self.fit in _WHOLE:
            return _WHOLE[self.fit](picture, size)
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resample(picture[top : top + side, left : left + side], (size, size))

    def apply_all(self, images: np.ndarray, name: str) -> np.ndarray:
        """Fits N pictures of one size, and gives them the channels asked for.

        Arguments:
            images: uint8, shape (N, H, W, C).
            name: The pictures' name in errors.

        Returns:
            uint8, shape (N, S, S, C′).

        Raises:
            UserError: The rule refuses the pictures.
        """
        count, height, width, channels = images.shape
        # A black picture of the same size is refused before any work.
        size = len(self.apply(np.zeros((height, width, channels), np.uint8), name))
        if (height, width) != (size, size):
            fitted = np.empty((count, size, size, channels), np.uint8)
            for i in range(count):
                fitted[i] = self.apply(images[i], name)
            images = fitted
        return images if self.channels is None else with_channels(images, self.channels)


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Gray to color by repetition, color to gray by ITU-R 601 luma (as Pillow rounds it).

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
    gray = np.empty((*images.shape[:-1], 1), np.uint8)
    flat, out = images.reshape(-1, 3), gray.reshape(-1)
    for start in range(0, len(flat), 1 << 20):  # in pieces: the sums need four bytes a value
        part = flat[start : start + (1 << 20)].astype(np.uint32)
        out[start : start + (1 << 20)] = (part @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16
    return gray


def _pad(picture: np.ndarray, size: int) -> np.ndarray:
    height, width, channels = picture.shape
    top, left = (size - height) // 2, (size - width) // 2
    padded = np.zeros((size, size, channels), np.uint8)
    padded[top : top + height, left : left + width] = picture
    return padded


def _resample(picture: np.ndarray, shape: tuple[int, int], kind: str = "BICUBIC") -> np.ndarray:
    """A picture of ``shape`` (height, width), by Pillow's filter ``kind``."""
    from PIL import Image

    channels = picture.shape[2]
    image = Image.fromarray(np.ascontiguousarray(picture[..., 0] if channels == 1 else picture))
    resized = np.asarray(image.resize(shape[::-1], Image.Resampling[kind]))
    return resized[..., None] if channels == 1 else resized


def _squash(picture: np.ndarray, size: int) -> np.ndarray:
    return _resample(picture, (size, size), "BILINEAR")


def _resize_center(picture: np.ndarray, size: int) -> np.ndarray:
    height, width = picture.shape[:2]
    # torchvision cuts the long side's fraction off, and rounds where the center begins to even.
    short = min(height, width)
    resized = _resample(picture, (size * height // short, size * width // short), "BILINEAR")
    top, left = (round((side - size) / 2) for side in resized.shape[:2])
    return resized[top : top + size, left : left + size]


def _adm(picture: np.ndarray, size: int) -> np.ndarray:
    while min(picture.shape[:2]) >= 2 * size:
        picture = _resample(picture, (picture.shape[0] // 2, picture.shape[1] // 2), "BOX")
    scale = size / min(picture.shape[:2])
    height, width = (round(side * scale) for side in picture.shape[:2])
    resized = _resample(picture, (height, width))
    top, left = (height - size) // 2, (width - size) // 2
    return resized[top : top + size, left : left + size]


_WHOLE = {"resize-center": _resize_center, "adm": _adm, "squash": _squash}
"""The rules that resample the whole picture."""
