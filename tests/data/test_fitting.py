"""What each fit does to known pixels, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from dmzcli.data import FITS, Fitting, with_channels
from dmzcli.errors import UserError

RNG = np.random.RandomState(0)
SQUARE = RNG.randint(0, 256, (8, 8, 3)).astype(np.uint8)
WIDE = RNG.randint(0, 256, (6, 10, 1)).astype(np.uint8)


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_is_left_alone(fit):
    np.testing.assert_array_equal(Fitting(8, fit).apply(SQUARE, "x"), SQUARE)


def test_pad_centres_on_zeros():
    padded = Fitting(12, "pad").apply(WIDE, "x")
    assert padded.shape == (12, 12, 1)
    np.testing.assert_array_equal(padded[3:9, 1:11], WIDE)
    assert padded.sum() == WIDE.sum()


def test_crop_takes_the_centre_square():
    np.testing.assert_array_equal(Fitting(6, "crop").apply(WIDE, "x"), WIDE[:, 2:8])
    assert Fitting(3, "crop").apply(WIDE, "x").shape == (3, 3, 1)


def test_resize_is_pillows_bicubic():
    expected = np.asarray(Image.fromarray(SQUARE).resize((5, 5), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Fitting(5, "resize").apply(SQUARE, "x"), expected)


def test_resampling_is_antialiased():
    """A fine checkerboard becomes grey; without a filter it would stay black and white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    inner = Fitting(8, "resize").apply(board, "x")[1:-1, 1:-1]
    assert np.abs(inner.astype(int) - 127).max() <= 3


@pytest.mark.parametrize(
    ("fitting", "picture", "sentence", "hint"),
    [
        (Fitting(), WIDE, r"x is 10 × 6 pixels \(width × height\), not square", "data.fit=resize|pad|crop"),
        (Fitting(16), SQUARE, "x is 8 × 8 pixels .*, not 16 × 16", "--set data.size=16 --set data.fit="),
        (Fitting(4, "pad"), SQUARE, "x is 8 × 8 pixels .*, too large to pad to 4 × 4", "data.size=8"),
        (Fitting(4, "resize"), WIDE, "x is 10 × 6 pixels .*, and resizing would distort it", "data.fit=crop"),
    ],
)
def test_refusals(fitting, picture, sentence, hint):
    with pytest.raises(UserError, match=sentence) as caught:
        fitting.apply(picture, "x")
    assert hint in caught.value.hint
    with pytest.raises(UserError, match=sentence):
        fitting.apply_all(picture[None], "x")


def test_channels():
    grey = with_channels(SQUARE, 1)
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(SQUARE).convert("L")))
    np.testing.assert_array_equal(with_channels(WIDE, 3), np.repeat(WIDE, 3, axis=2))
    np.testing.assert_array_equal(with_channels(with_channels(WIDE, 3), 1), WIDE)
    assert Fitting(channels=1).apply_all(SQUARE[None], "x").shape == (1, 8, 8, 1)
