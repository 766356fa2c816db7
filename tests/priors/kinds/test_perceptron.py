"""The perceptron: what its network learns of given bits, and its rounding."""

from __future__ import annotations

import numpy as np
import pytest

import priors

SMALL = {"hidden": 32, "layers": 1, "dropout": 0.0, "epochs": 60}


def parities(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four given bits, and: the parities of two pairs of them, and a coin that falls on 1 with 0.9."""
    rng = np.random.default_rng(seed)
    given = rng.integers(0, 2, (n, 4), np.uint8)
    coin = rng.random(n) < 0.9
    return given, np.c_[given[:, 0] ^ given[:, 1], given[:, 2] ^ given[:, 3], coin].astype(np.uint8)


@pytest.fixture(scope="module")
def fitted() -> priors.Prior:
    given, bits = parities(2000)
    prior = priors.create("perceptron", dim=3, **SMALL)
    prior.fit(bits, given=given)
    return prior


def test_it_learns_what_no_regression_on_the_bits_does(fitted: priors.Prior) -> None:
    """The parities are certain, the coin has 0.469 bits; independent bits and regressions have 2.469. Fitted to
    1,800 rows, 0.1 of a bit is a hundred times what the coin's rate costs."""
    given, bits = parities(4000, seed=1)
    assert -fitted.log_prob(bits, given).mean() / np.log(2) < 0.469 + 0.1
    linear = priors.create("bernoulli", dim=3)
    linear.fit(parities(2000)[1], given=parities(2000)[0])
    assert -linear.log_prob(bits, given).mean() / np.log(2) > 2.4


def test_toward_temperature_zero_it_is_the_map_to_the_likelier_bits(fitted: priors.Prior) -> None:
    given, bits = parities(500, seed=2)
    rounded = [fitted.sample(500, seed=seed, given=given, temperature=1e-6) for seed in (0, 1)]
    np.testing.assert_array_equal(rounded[0], rounded[1])
    np.testing.assert_array_equal(rounded[0][:, :2], bits[:, :2])
    assert (rounded[0][:, 2] == 1).all()
    drawn = fitted.sample(500, seed=0, given=given)
    assert 0.8 < drawn[:, 2].mean() < 0.97  # 0.9, known to 0.013


def test_a_last_batch_of_one_row_is_no_accident() -> None:
    given, bits = parities(301)
    prior = priors.create("perceptron", dim=3, hidden=8, layers=2, epochs=3, batch=100)
    report = prior.fit(bits, valid=bits[:50], given=given, given_valid=given[:50])
    assert np.isfinite(report.valid_nats)
