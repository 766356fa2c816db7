"""Pictures as files: PNGs, and grids of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


LINE = 16
"""Height in pixels of a line of text on a picture."""


def labelled_rows(
    rows: Sequence[tuple[str, Array]], columns: int, scale: int | None = None, gap: int = 1
) -> Array:
    """Rows of images, each under its name.

    Arguments:
        rows: Name, and images uint8 (N, H, W, C) of one size, N at most ``columns``; a row may be empty.
        columns: Places in a row.
        scale: Whole factor of enlargement, nearest neighbor; by default an image is at least 48 pixels wide.
        gap: Pixels between images, before the enlargement.

    Returns:
        uint8 (H', W', 3).
    """
    from PIL import ImageDraw

    height, width = next(images.shape[1:3] for _, images in rows if len(images))
    scale = scale or max(1, math.ceil(48 / width))
    tall = height * scale + LINE + 2
    page = Image.new("RGB", (columns * (width + gap) * scale + 4, tall * len(rows) + 2), "white")
    draw = ImageDraw.Draw(page)
    for number, (name, images) in enumerate(rows):
        text = name.encode("latin-1", "replace").decode("latin-1")  # the letters that Pillow's own font has
        draw.text((2, number * tall + 2), text, fill="black")
        if len(images):
            strip = grid(images, columns, scale, gap)
            page.paste(to_pil(strip).convert("RGB"), (2, number * tall + LINE))
    return np.asarray(page)


def to_pil(image: Array) -> Image.Image:
    """An image (H, W, C), C 1 or 3, as a PIL image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def write_png(path: str | Path, image: Array) -> None:
    """Writes an image (H, W, C), whole or not at all."""
    with atomic(path) as temporary:
        to_pil(image).save(temporary, format="PNG")
