"""Pictures as files: PNGs, and grids of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from dmzcli.system.files import atomic

Array = np.ndarray


def grid(images: Array, columns: int | None = None, scale: int | None = None, gap: int = 1) -> Array:
    """Tiles images (N, H, W, C) row by row.

    Arguments:
        images: uint8.
        columns: Tiles per row; as square as possible by default.
        scale: Whole factor of enlargement, nearest neighbor; by default a tile is at least 32 pixels wide.
        gap: Pixels between tiles, before the enlargement.

    Returns:
        uint8 (H', W', C), white where there is no image.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = scale or max(1, math.ceil(32 / width))
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet.repeat(scale, 0).repeat(scale, 1)


def to_pil(image: Array) -> Image.Image:
    """An image (H, W, C), C 1 or 3, as a PIL image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def write_png(path: str | Path, image: Array) -> None:
    """Writes an image (H, W, C), whole or not at all."""
    with atomic(path) as temporary:
        to_pil(image).save(temporary, format="PNG")
