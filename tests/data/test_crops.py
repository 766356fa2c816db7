"""What each fit does to known pixels, and what it refuses."""

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from dmzcli.config.sections import Fit
from dmzcli.data import FITS, Crop, with_channels
from dmzcli.errors import UserError

RNG = np.random.RandomState(0)
SQUARE = RNG.randint(0, 256, (8, 8, 3)).astype(np.uint8)
FACE = RNG.randint(0, 256, (218, 178, 3)).astype(np.uint8)
WIDE = RNG.randint(0, 256, (6, 10, 1)).astype(np.uint8)


@pytest.mark.parametrize("fit", [fit for fit in FITS if fit != "d2c"])
def test_a_picture_of_the_right_size_is_left_alone(fit):
    np.testing.assert_array_equal(Crop(8, fit).apply(SQUARE, "x"), SQUARE)


def test_pad_centres_on_zeros():
    padded = Crop(12, "pad").apply(WIDE, "x")
    assert padded.shape == (12, 12, 1)
    np.testing.assert_array_equal(padded[3:9, 1:11], WIDE)
    assert padded.sum() == WIDE.sum()


def test_crop_takes_the_centre_square():
    np.testing.assert_array_equal(Crop(6, "crop").apply(WIDE, "x"), WIDE[:, 2:8])
    assert Crop(3, "crop").apply(WIDE, "x").shape == (3, 3, 1)


# The named crops of CelebA ---------------------------------------------------------------------------------


def torchvisions(*steps):
    from torchvision.transforms import Compose

    return np.asarray(Compose(steps)(Image.fromarray(FACE)))


def test_d2c_keeps_rows_from_57_and_columns_from_25():
    window = np.zeros((218, 178, 1), np.uint8)
    window[57:185, 25:153] = 255
    for size in (64, 32, 128):
        assert (Crop(size, "d2c").apply(window, "x") == 255).all()  # nothing from outside
    window[57:185, 25] = window[57, 25:153] = 0
    inside = Crop(128, "d2c").apply(window, "x")
    assert (inside[0] == 0).all() and (inside[:, 0] == 0).all() and (inside[1:, 1:] == 255).all()


def test_d2c_is_diffaes():
    """A crop by (top, left, height, width), then torchvision's default resizing of pictures: bilinear."""
    from torchvision.transforms import Lambda, Resize
    from torchvision.transforms.functional import crop

    expected = torchvisions(Lambda(lambda image: crop(image, 57, 25, 128, 128)), Resize(64))
    np.testing.assert_array_equal(Crop(64, "d2c").apply(FACE, "x"), expected)


@pytest.mark.parametrize("size", [64, 63, 128, 178, 200])
def test_resize_center_is_torchvisions(size):
    from torchvision.transforms import CenterCrop, Resize

    expected = torchvisions(Resize(size), CenterCrop(size))
    np.testing.assert_array_equal(Crop(size, "resize-center").apply(FACE, "x"), expected)


def test_squash_is_torchvisions():
    from torchvision.transforms import Resize

    np.testing.assert_array_equal(Crop(64, "squash").apply(FACE, "x"), torchvisions(Resize((64, 64))))


def test_adm_halves_by_boxes_and_ends_bicubic():
    """178×218: one halving to 89×109, then the short side to 64 and the long one to 78, and rows 7 to 70 of it."""
    half = Image.fromarray(FACE).resize((89, 109), Image.Resampling.BOX)
    whole = np.asarray(half.resize((64, 78), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Crop(64, "adm").apply(FACE, "x"), whole[7:71])
    means = FACE.reshape(109, 2, 89, 2, 3)
    # A box filter is a mean, rounded once per direction.
    np.testing.assert_allclose(np.asarray(half), means.mean((1, 3)), atol=1)


def test_the_crops_differ():
    made = {
        Crop(64, fit).apply(FACE, "x").tobytes() for fit in ("d2c", "resize-center", "adm", "squash", "crop")
    }
    assert len(made) == 5


def test_resize_is_pillows_bicubic():
    expected = np.asarray(Image.fromarray(SQUARE).resize((5, 5), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Crop(5, "resize").apply(SQUARE, "x"), expected)


def test_resampling_is_antialiased():
    """A fine checkerboard becomes grey; without a filter it would stay black and white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    inner = Crop(8, "resize").apply(board, "x")[1:-1, 1:-1]
    assert np.abs(inner.astype(int) - 127).max() <= 3


@pytest.mark.parametrize(
    ("crop", "picture", "sentence", "hint"),
    [
        (Crop(), WIDE, r"x is 10 × 6 pixels \(width × height\), not square", "data.fit=resize|pad|crop"),
        (Crop(16), SQUARE, "x is 8 × 8 pixels .*, not 16 × 16", "--set data.size=16 --set data.fit="),
        (Crop(4, "pad"), SQUARE, "x is 8 × 8 pixels .*, too large to pad to 4 × 4", "data.size=8"),
        (Crop(4, "resize"), WIDE, "x is 10 × 6 pixels .*, and resizing would distort it", "data.fit=crop"),
        (Crop(64), FACE, "x is 178 × 218 pixels .*, not 64 × 64", "data.fit=d2c|resize-center|adm|squash"),
        (Crop(8, "d2c"), SQUARE, "x is 8 × 8 pixels .*, but d2c is a crop of CelebA's", "data.fit=resize"),
    ],
)
def test_refusals(crop, picture, sentence, hint):
    with pytest.raises(UserError, match=sentence) as caught:
        crop.apply(picture, "x")
    assert hint in caught.value.hint
    with pytest.raises(UserError, match=sentence):
        crop.apply_all(picture[None], "x")


def test_channels():
    grey = with_channels(SQUARE, 1)
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(SQUARE).convert("L")))
    np.testing.assert_array_equal(with_channels(WIDE, 3), np.repeat(WIDE, 3, axis=2))
    np.testing.assert_array_equal(with_channels(with_channels(WIDE, 3), 1), WIDE)
    assert Crop(channels=1).apply_all(SQUARE[None], "x").shape == (1, 8, 8, 1)


def test_the_settings_know_the_same_rules():
    assert get_args(Fit) == FITS
