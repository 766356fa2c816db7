"""What bits fix, and what x_T does."""

import numpy as np
import pytest

from dmzcli.errors import UserError
from dmzcli.generation.inversion import inversion_recipe, invert
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.reconstruct import Reconstructions, reconstruct
from dmzcli.model.autoencoder import build

RECIPE = Recipe("ddim", 5)


@pytest.fixture
def originals(digits):
    return digits.images[digits.rows("test")[:7]]


def test_the_error_parts_into_bias_and_spread(model, originals):
    """1/K Σ ‖x − x̂ᵏ‖² = ‖x − x̄‖² + (K − 1)/K · spread², exactly, before x̄ is rounded to whole gray levels."""
    made = reconstruct(model, originals, RECIPE, 3)
    draws, x = made.draws / 255, originals / 255
    left = np.square(draws - x).mean(0)
    right = np.square(draws.mean(0) - x) + 2 / 3 * np.square(made.spread)
    assert np.allclose(left, right, atol=1e-12)
    assert np.abs(made.mean / 255 - draws.mean(0)).max() <= 0.5 / 255 + 1e-12


def test_draws_differ_and_the_first_of_more_are_those_of_fewer(model, originals):
    three, one = reconstruct(model, originals, RECIPE, 3), reconstruct(model, originals[:4], RECIPE, 1)
    assert (three.draws[0, :4] == one.draws[0]).all() and one.inverted is None
    assert (three.draws[0] != three.draws[1]).any() and (three.draws[1] != three.draws[2]).any()
    with pytest.raises(ValueError, match="no spread"):
        _ = one.spread


def test_inverted_noise_makes_the_image_again(model, originals):
    """Far nearer than drawn noise does; how near, the inversion's own tests say."""
    made = reconstruct(model, originals, RECIPE, 1, inversion_recipe(model.config.diffusion, 5))
    back, drawn = (np.square(x - originals.astype(float)).mean() for x in (made.inverted, made.draws[0]))
    assert back < drawn / 5


def test_inversion_goes_by_batches(model, originals):
    recipe, counts = inversion_recipe(model.config.diffusion, 4), []
    bits = np.zeros((7, model.dim), np.uint8)
    whole = invert(model, originals, bits, recipe)
    parts = invert(model, originals, bits, recipe, 3, counts.append)
    assert counts == [3, 6, 7] and np.allclose(whole, parts, atol=1e-4) and whole.shape == (7, 1, 8, 8)
    assert invert(model, originals[:0], bits[:0], recipe).shape == (0, 1, 8, 8)


def test_what_is_refused(model, originals, tiny):
    with pytest.raises(UserError, match="no images"):
        reconstruct(model, originals[:0], RECIPE)
    with pytest.raises(UserError, match="the model takes 8x8x1"):
        reconstruct(model, np.zeros((2, 9, 9, 1), np.uint8), RECIPE)
    with pytest.raises(UserError, match="no bits to reconstruct"):
        reconstruct(build(tiny(model__latent="none")).eval(), originals, RECIPE)


def test_the_spread_of_known_draws():
    """Pixels 0 and 255 over two draws: 1 / √2 of [0, 1], the unbiased standard deviation."""
    draws = np.zeros((2, 1, 2, 2, 1), np.uint8)
    draws[1, 0, 0, 0] = 255
    spread = Reconstructions(draws[0], np.zeros((1, 8), np.uint8), draws, None).spread
    assert spread[0, 0, 0, 0] == pytest.approx(1 / np.sqrt(2)) and spread.sum() == spread[0, 0, 0, 0]
