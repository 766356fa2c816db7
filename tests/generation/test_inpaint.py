"""Inpainting: what is kept, what is drawn, and which part is meant."""

import numpy as np
import pytest
from PIL import Image

from dmzcli.codes.encode import bits_of
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode
from dmzcli.generation.inpaint import Gap, inpaint, nearest_codes, read_with_gap
from dmzcli.generation.recipe import Recipe

RECIPE = Recipe(steps=5)
LEFT = np.arange(8) < np.full((8, 1), 4)


@pytest.fixture
def image(digits):
    return digits.images[7]


@pytest.fixture
def bits(model, image):
    return bits_of(model, image[None]).repeat(5, 0)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "unipc"])
def test_the_known_part_is_the_images_own(model, image, bits, sampler):
    made = inpaint(model, image, LEFT, bits, Recipe(sampler, 5), seed=0, resample=3)
    assert (made[:, LEFT] == image[LEFT]).all()
    assert (made[0][~LEFT] != made[1][~LEFT]).any()


def test_all_known_is_the_image_and_nothing_known_is_sampling(model, image, bits):
    every = np.ones((8, 8), bool)
    assert (inpaint(model, image, every, bits, RECIPE, seed=0) == image).all()
    plain = decode(model, bits, RECIPE.create(model.config.diffusion), range(5), seed=3)
    assert (inpaint(model, image, ~every, bits, RECIPE, seed=3) == plain).all()


def test_a_draw_depends_on_its_seed_and_number_alone(model, image, bits):
    """Batches change the last digits of float32 alone: one level of 256 at most."""
    whole = inpaint(model, image, LEFT, bits, RECIPE, seed=1, resample=2)
    parts = inpaint(model, image, LEFT, bits[:3], RECIPE, seed=1, resample=2, batch_size=2)
    assert np.abs(whole[:3].astype(int) - parts).max() <= 1
    other = inpaint(model, image, LEFT, bits, RECIPE, seed=2, resample=2)
    assert (other != whole).any()


def test_the_candidate_is_the_one_nearest_to_the_known_part(model, image, bits):
    codes = np.stack([1 - bits[:2], bits[:2]], 1)
    sampler = RECIPE.create(model.config.diffusion)
    errors = []
    for k in range(2):
        made = decode(model, codes[:, k], sampler, range(2), seed=4)
        errors.append(np.square(made[:, LEFT].astype(float) - image[LEFT]).sum((1, 2)))
    chosen = nearest_codes(model, image, LEFT, codes, RECIPE, seed=4)
    assert chosen.tolist() == np.argmin(errors, 0).tolist()


def test_parts_of_a_picture(tmp_path):
    white = np.zeros((4, 6), np.uint8)
    white[1, 2] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    assert np.argwhere(Gap(mask=tmp_path / "mask.png").of(4, 6, "x")).tolist() == [[1, 2]]
    assert np.argwhere(Gap(box=(1, 0, 3, 1)).of(4, 6, "x")).tolist() == [[0, 1], [0, 2]]
    for half, place in (
        ("left", np.s_[:, :3]),
        ("right", np.s_[:, 3:]),
        ("top", np.s_[:2]),
        ("bottom", np.s_[2:]),
    ):
        gap = Gap(half=half).of(4, 6, "x")
        assert gap[place].all() and gap.sum() == 12


def test_the_mask_is_fitted_as_the_picture_is(tmp_path):
    """A picture of 16 × 8, cropped to its middle 8 × 8: the box of columns 4 to 8 is its left half."""
    Image.fromarray(np.full((8, 16), 9, np.uint8)).save(tmp_path / "wide.png")
    image, known = read_with_gap(tmp_path / "wide.png", Gap(box=(4, 0, 8, 8)), (1, 8, 8), "crop")
    assert image.shape == (8, 8, 1) and (known == ~LEFT).all()


@pytest.mark.parametrize(
    ("gap", "message"),
    [
        (Gap(box=(0, 0, 9, 8)), r"--box 0,0,9,8 is no box in .* of 8 × 8 pixels"),
        (Gap(box=(4, 0, 4, 8)), "is no box"),
        (Gap(half="lefd"), "unknown half 'lefd'"),
        ("small", r"the mask .* is 4 × 4 pixels, and .* is 8 × 8"),
        ("black", "leaves nothing of .* to draw"),
        ("junk", "is damaged, or not a picture"),
    ],
)
def test_what_is_no_part_is_refused(tmp_path, gap, message):
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "x.png")
    if isinstance(gap, str):
        Image.fromarray(np.zeros((4, 4) if gap == "small" else (8, 8), np.uint8)).save(tmp_path / "m.png")
        if gap == "junk":
            (tmp_path / "m.png").write_bytes(b"junk")
        gap = Gap(mask=tmp_path / "m.png")
    with pytest.raises(UserError, match=message):
        read_with_gap(tmp_path / "x.png", gap, (1, 8, 8), "resize")
