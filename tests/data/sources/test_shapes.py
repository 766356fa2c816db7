"""The drawn shapes are fixed for ever, and their factors can be seen in them."""

import numpy as np
import pytest

from dmzcli.data import SPLITS, load
from dmzcli.data.sources.shapes import LEVELS, SHAPES, draw


@pytest.fixture(scope="module")
def shapes():
    return load("shapes")


def column(shapes, name):
    return shapes.attributes[:, shapes.attribute_names.index(name)] == 1


def test_shapes_are_frozen(shapes):
    assert shapes.identity == "shapes/32x32x3/3658a4adb390"
    assert [len(shapes.rows(split)) for split in SPLITS] == [16_000, 2_000, 2_000]
    assert shapes.label_names == SHAPES and np.bincount(shapes.labels).tolist() == [5000] * 4


def test_no_image_is_there_twice(shapes):
    assert len(np.unique(shapes.images.reshape(len(shapes), -1), axis=0)) == len(shapes)


def test_every_factor_has_one_level_in_every_image(shapes):
    for factor, levels in LEVELS.items():
        marks = [column(shapes, f"{factor}={level}") for level in levels]
        assert (np.sum(marks, axis=0) == 1).all()
        # 20,000 draws of p = 1/levels: five standard errors are at most 5 √(1/4 / 20,000) = 0.018.
        assert np.allclose(np.mean(marks, axis=1), 1 / len(levels), atol=0.018)


def test_the_factors_can_be_seen(shapes):
    """Where the light is, how much of it, and its color say column, row, size and hue."""
    light = shapes.images.max(3).astype(float)
    mass = light.sum((1, 2))
    place = np.arange(32) + 0.5
    across, down = (light.sum(1) @ place) / mass, (light.sum(2) @ place) / mass
    for measured, factor in ((across, "column"), (down, "row")):
        means = [measured[column(shapes, f"{factor}={level}")].mean() for level in LEVELS[factor]]
        # Levels are 3 pixels wide, from 10 on; a triangle's center of mass is that of its corners.
        assert np.allclose(means, [11.5, 14.5, 17.5, 20.5], atol=0.1)
    sizes = [mass[column(shapes, f"size={level}")].mean() for level in LEVELS["size"]]
    assert sizes == sorted(sizes)
    red = shapes.images[column(shapes, "hue=red")]
    assert red[..., 0].max() == 255 and not red[..., 1:].any()


def test_edges_are_smooth_and_areas_exact():
    """A square of radius r has the area (1.5 r)², however it is turned and wherever it lies."""
    uniform = np.random.default_rng(0).random((50, 5))
    uniform[:, 2] = 0.5  # r = 7
    areas = draw(np.zeros(50, int), uniform).max(3).sum((1, 2)) / 255
    # Coverage by distance errs where an edge is oblique or bends, below 1/8 pixel a pixel of the 42 of the edge.
    assert np.allclose(areas, 10.5**2, atol=42 / 8)
    assert np.ptp(areas) < 3  # and hardly differs from image to image


def test_gray_and_small(shapes):
    gray = load("shapes", channels=1)
    assert gray.images.shape == (20_000, 32, 32, 1)
    brightest = [gray.images[column(gray, f"hue={level}")].max() for level in LEVELS["hue"]]
    assert len(set(brightest)) == 6
