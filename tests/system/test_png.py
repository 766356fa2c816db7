"""Grids and PNGs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.system.png import LINE, grid, labelled_rows, write_png

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("columns", [None, 1, 3, 7, 9])
@pytest.mark.parametrize("scale", [1, 2])
def test_every_image_is_at_its_place(columns, scale):
    sheet = grid(IMAGES, columns, scale)
    columns = columns or 3
    for i, image in enumerate(IMAGES):
        top, left = i // columns * 9 * scale, i % columns * 9 * scale
        tile = sheet[top : top + 8 * scale, left : left + 8 * scale]
        assert np.array_equal(tile[::scale, ::scale], image) and np.array_equal(
            tile, tile[::scale].repeat(scale, 0)
        )
    rows = -(-7 // columns)
    assert sheet.shape == ((rows * 9 - 1) * scale, (columns * 9 - 1) * scale, 3)


def test_what_holds_no_image_is_white():
    assert (grid(IMAGES, 4, 1)[9:, 27:] == 255).all() and (grid(IMAGES, 4, 1)[8] == 255).all()


@pytest.mark.parametrize(("size", "scale"), [(8, 4), (28, 2), (32, 1), (64, 1)])
def test_small_images_are_enlarged_to_32_pixels(size, scale):
    assert grid(np.zeros((1, size, size, 1), np.uint8)).shape == (size * scale, size * scale, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_pngs_lose_nothing(channels):
    write_png("below/a.png", IMAGES[0, :, :, :channels])
    read = np.asarray(Image.open("below/a.png")).reshape(8, 8, channels)
    assert np.array_equal(read, IMAGES[0, :, :, :channels])
    assert [file.name for file in Path("below").iterdir()] == ["a.png"]


def test_rows_lie_under_their_names():
    """A row's strip begins below its line of text, and an empty row leaves its place white."""
    page = labelled_rows([("one", IMAGES[:2]), ("none", IMAGES[:0]), ("ünknown 漢", IMAGES[2:3])], 2, scale=1)
    assert page.dtype == np.uint8 and page.shape == (3 * (8 + LINE + 2) + 2, 2 * 9 + 4, 3)
    for row, images in enumerate((IMAGES[:2], IMAGES[:0], IMAGES[2:3])):
        top = row * (8 + LINE + 2)
        assert (page[top : top + LINE, :, 0] < 255).any()  # the name
        for column in range(2):
            tile = page[top + LINE : top + LINE + 8, 2 + 9 * column : 10 + 9 * column]
            assert np.array_equal(tile, images[column]) if column < len(images) else (tile == 255).all()
