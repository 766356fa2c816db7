"""Orders of flips, great circles, and interpolations on arrays."""

import numpy as np
import pytest

import priors
from dmzcli.errors import UserError
from dmzcli.generation.interpolate import Ends, interpolate, paths, slerp
from dmzcli.generation.inversion import inversion_recipe
from dmzcli.generation.orders import ORDERS, along, at_once, check_order
from dmzcli.model.autoencoder import build

RNG = np.random.default_rng(0)


def codes(count, dim):
    return RNG.integers(0, 2, (count, dim), np.uint8)


@pytest.fixture
def chain():
    """A prior that likes equal neighbors: codes of two runs, 00…011…1, with some noise."""
    cuts = RNG.integers(0, 9, 4000)
    rows = (np.arange(8) >= cuts[:, None]).astype(np.uint8)
    rows ^= (RNG.random(rows.shape) < 0.02).astype(np.uint8)
    prior = priors.create("chow-liu", dim=8)
    prior.fit(rows)
    return prior


# Orders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_flips_each_differing_bit_once(name, chain):
    first, second = codes(2, 8)
    order = ORDERS[name](first, second, np.random.default_rng(1), chain)
    assert sorted(order) == np.flatnonzero(first != second).tolist() and order.dtype == np.int64
    path = along(first, order, len(order) + 1)
    assert (path[0] == first).all() and (path[-1] == second).all()
    assert (np.abs(np.diff(path.astype(int), axis=0)).sum(1) == 1).all()  # one bit a step
    same = ORDERS[name](first, first, np.random.default_rng(1), chain)
    assert len(same) == 0 and (along(first, same, 3) == first).all()


def test_more_or_fewer_frames_than_bits():
    order = np.arange(5)
    assert along(np.zeros(5, np.uint8), order, 3).sum(1).tolist() == [
        0,
        2,
        5,
    ]  # half of five, rounded to even
    assert along(np.zeros(5, np.uint8), order, 11).sum(1).tolist() == [0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5]


def test_greedy_keeps_codes_likely(chain):
    """From 0⁸ to 1⁸ the likely codes are 00…011…1: greedy finds them, and no order's least likely code is likelier."""
    zeros, ones = np.zeros(8, np.uint8), np.ones(8, np.uint8)
    order = ORDERS["greedy"](zeros, ones, np.random.default_rng(0), chain)
    path = along(zeros, order, 9)
    assert (np.diff(path.astype(int), axis=1) != 0).sum(1).max() == 1
    others = [np.random.default_rng(i).permutation(8) for i in range(50)]
    worst = [chain.log_prob(along(zeros, other, 9)).min() for other in others]
    assert chain.log_prob(path).min() >= max(worst)


def test_greedy_takes_the_best_flip_each_time(chain):
    first, second = codes(2, 8)
    code, left = first.copy(), set(np.flatnonzero(first != second).tolist())
    for flipped in ORDERS["greedy"](first, second, np.random.default_rng(0), chain):
        values = {}
        for bit in left:
            tried = code.copy()
            tried[bit] ^= 1
            values[bit] = chain.log_prob(tried[None])[0]
        assert values[int(flipped)] == max(values.values())
        code[flipped] ^= 1
        left.remove(int(flipped))


def test_all_at_once_and_unknown_orders():
    zeros, ones = np.zeros(3, np.uint8), np.ones(3, np.uint8)
    assert at_once(zeros, ones, 5).sum(1).tolist() == [0, 0, 3, 3, 3]
    with pytest.raises(UserError, match="unknown order 'greeedy'") as caught:
        check_order("greeedy")
    assert "did you mean 'greedy'" in caught.value.hint


# Great circles ------------------------------------------------------------------------------------------------------


def test_a_great_circle_keeps_the_length_and_turns_evenly():
    """Between vectors of one length; float32 results of some thousand entries are good to 1e-5."""
    a, b = RNG.standard_normal((2, 3, 1, 20, 20))
    b *= (
        np.linalg.norm(a.reshape(3, -1), axis=1)[:, None, None, None]
        / np.linalg.norm(b.reshape(3, -1), axis=1)[:, None, None, None]
    )
    points = np.stack([slerp(a, b, t) for t in np.linspace(0, 1, 5)]).reshape(5, 3, -1)
    assert np.allclose(points[0], a.reshape(3, -1), atol=1e-5)
    assert np.allclose(points[-1], b.reshape(3, -1), atol=1e-5)
    lengths = np.linalg.norm(points, axis=2)
    assert np.allclose(lengths, lengths[0], rtol=1e-5)
    cosines = (points[:-1] * points[1:]).sum(2) / (lengths[:-1] * lengths[1:])
    assert np.allclose(cosines, cosines[0], atol=1e-5)


def test_where_there_is_no_great_circle_the_line_is_straight():
    a = np.ones((2, 4), np.float32)
    assert np.allclose(slerp(a, a, 0.3), a) and np.allclose(slerp(a, -a, 0.25), 0.5 * a)
    assert np.allclose(slerp(a, 0 * a, 1.0), 0, atol=1e-6)


# On arrays ----------------------------------------------------------------------------------------------------------


def test_the_ends_are_the_decoded_images_whatever_the_order(model, digits):
    rows = digits.rows("test")
    first, second = digits.images[rows[:2]], digits.images[rows[2:4]]
    given = interpolate(model, first, second, frames=4, steps=10)
    random = interpolate(model, first, second, "random", frames=4, steps=10, seed=3)
    assert given.shape == (2, 4, 8, 8, 1) and given.dtype == np.uint8
    assert (given[:, 0] == random[:, 0]).all() and (given[:, -1] == random[:, -1]).all()

    def error(made, image):
        return np.square(made.astype(float) - image).mean()

    # Near the images, which are far from each other; how near, the inversion's own tests say.
    assert error(given[:, 0], first) < error(first, second) / 5
    assert error(given[:, -1], second) < error(first, second) / 5


def test_random_orders_belong_to_the_pair(model, digits):
    rows = digits.rows("test")
    first, second = digits.images[rows[:3]], digits.images[rows[3:6]]
    recipe = inversion_recipe(model.config.diffusion, 2)
    ends = Ends.of(model, first, second, recipe)
    three = paths(ends, "random", 9, seed=1)
    fewer = paths(Ends.of(model, first[:2], second[:2], recipe), "random", 9, seed=1)
    assert (three[:2] == fewer).all() and (three != paths(ends, "random", 9, seed=2)).any()


def test_what_is_refused(model, digits, tiny):
    a, b = digits.images[:1], digits.images[1:2]
    uniform = priors.create("uniform", dim=4)
    uniform.fit(codes(10, 4))
    given = priors.create("bernoulli", dim=8)
    given.fit(codes(20, 8), given=codes(20, 2))
    unfitted = priors.create("bernoulli", dim=8)
    for arguments, says in [
        ((model, a, a), "both images of pair 1 are the same"),
        ((model, a, digits.images[:2]), "1 first and 2 second images make no pairs"),
        ((model, a[:0], b[:0]), "0 first and 0 second images make no pairs"),
        ((model, a / 255, b / 255), "images are float64, expected uint8"),
        ((model, np.zeros((1, 9, 9, 1), np.uint8), b), "the model takes 8x8x1"),
        ((model, a, b, "greeedy"), "unknown order"),
        ((model, a, b, "greedy"), "the order 'greedy' needs a prior"),
        ((model, a, b, "given", 2), "2 frames make no strip"),
        ((model, a, b, "greedy", 3, uniform), "the prior has 4 bits, the model has 8"),
        ((model, a, b, "greedy", 3, given), "was fitted given something"),
        ((model, a, b, "given", 3, None, 51), "an inversion of 51 steps does not fit"),
        ((build(tiny(model__latent="none")).eval(), a, b), "no bits to interpolate"),
        ((build(tiny(diffusion__perturbation=0.1)).eval(), a, b), "trained with input perturbation"),
    ]:
        with pytest.raises(UserError, match=says):
            interpolate(*arguments)
    with pytest.raises(priors.PriorError, match="not fitted"):
        interpolate(model, a, b, "greedy", 3, unfitted, 2)


def test_an_inversion_has_the_steps_asked_for(tiny):
    diffusion = tiny().diffusion
    assert inversion_recipe(diffusion).steps == 50 and inversion_recipe(diffusion, 7).steps == 7
    assert inversion_recipe(diffusion, 7, "none").threshold == "none"
