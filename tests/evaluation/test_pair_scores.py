"""Distances to targets, diversity, and the references, against what can be computed by hand."""

import numpy as np
import pytest

from dmzcli.evaluation.pair_scores import among, flat, measure, nearest_rows, random_rows, to_target

RNG = np.random.default_rng(0)


def test_constant_errors_have_their_closed_form():
    """Draw j is 51 j off: a mean squared error of (0.2 j)^2, and of (0.2 (k - j))^2 between draws j and k."""
    targets = RNG.integers(0, 100, (5, 4, 4, 3), np.uint8)
    images = np.stack([targets + 51 * j for j in range(3)], 1).astype(np.uint8)
    found = measure(images, targets, None, "").values
    np.testing.assert_allclose(found["mse"], (0 + 0.04 + 0.16) / 3, rtol=1e-5)
    np.testing.assert_allclose(found["mse-best"], 0, atol=1e-9)
    np.testing.assert_allclose(found["diversity-mse"], (0.04 + 0.16 + 0.04) / 3, rtol=1e-5)
    assert "distance-" not in found
    assert set(measure(images[:, :1], targets, None, "").values) == {"mse"}


def test_distances_in_features():
    rows = np.array([[[0.0, 0], [3, 4]]])
    np.testing.assert_allclose(to_target(rows, np.array([[0.0, 0]])), [[0, 5]])
    np.testing.assert_allclose(among(rows), [5])
    assert among(rows[:, :1]) is None
    images, targets = np.zeros((1, 2, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1), np.uint8)
    found = measure(images, targets, (rows, np.array([[0.0, 0]])), "x")
    values = {score.metric: score.value for score in found.scores()}
    assert (values["distance-x"], values["distance-x-best"], values["diversity-x"]) == (2.5, 0, 5)


def test_differences_are_paired():
    """Errors that all inputs share cancel: the difference is exact, though both means have errors."""
    targets = RNG.integers(0, 100, (9, 4, 4, 1), np.uint8)
    images = (targets + RNG.integers(0, 50, (9, 1, 1, 1))).astype(np.uint8)[:, None]
    one, two = measure(images, targets, None, ""), measure(images, targets, None, "")
    (score,) = one.minus(two)
    assert (score.metric, score.value, score.error) == ("difference of mse", 0, 0)
    assert one.scores()[0].error > 0


def test_pixels_are_scaled_so_that_squares_are_means():
    images = np.full((1, 2, 2, 3), 255, np.uint8)
    assert (flat(images) ** 2).sum() == pytest.approx(1)


def test_nearest_rows_are_those_of_a_loop():
    known, bits = RNG.integers(0, 2, (300, 6), np.uint8), RNG.integers(0, 2, (20, 6), np.uint8)
    found = nearest_rows(bits, known, 4, np.full(20, -1))
    for code, rows in zip(bits, found, strict=True):
        distance = (known != code).sum(1)
        np.testing.assert_array_equal(rows, np.argsort(distance, kind="stable")[:4])
    own = np.arange(20)
    found = nearest_rows(known[:20], known, 3, own)
    assert (found != own[:, None]).all()  # nobody is his own neighbor


def test_random_rows_are_of_the_class_and_not_the_image_itself():
    pool, of = np.arange(100, 160), np.arange(60) % 3
    own, labels = np.array([100, 101, 7]), np.array([0, 1, 2])
    rows = random_rows(labels, pool, of, 5, own, 0)
    assert rows.shape == (3, 5)
    for chosen, label, row in zip(rows, labels, own, strict=True):
        assert (of[chosen - 100] == label).all() and row not in chosen and len(set(chosen)) == 5
    assert (random_rows(labels, pool, of, 5, own, 0) == rows).all()
    assert set(random_rows(None, pool, None, 60, own[2:], 0)[0]) == set(pool)
    assert random_rows(labels[:1], pool[:1], of[:1], 3, own[2:], 0).tolist() == [[100, 100, 100]]
