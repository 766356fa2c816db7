"""The authors' protocol: its codes, its folds, and what is wrong with it."""

import numpy as np
import pytest

from dmzcli.analysis.paper import check_bits, paper_scores, training_codes
from dmzcli.analysis.probes.targets import Target
from dmzcli.errors import UserError


def test_codes_have_the_law_of_the_gumbel_softmax():
    """z > 1/2 with probability π, whatever the temperature; the hotter, the softer."""
    probs = np.tile(np.array([0.1, 0.5, 0.8]), (20_000, 1))
    for temperature in (0.5, 1.0):
        codes = training_codes(probs, temperature, seed=0)
        # ± 5 √(1/4 / 20,000) = 0.018
        assert np.allclose((codes > 0.5).mean(0), [0.1, 0.5, 0.8], atol=0.018)
    assert (
        np.abs(training_codes(probs, 2.0, 0) - 0.5).mean()
        < np.abs(training_codes(probs, 0.5, 0) - 0.5).mean()
    )
    ends = training_codes(np.array([[0.0, 1.0]]), 1.0, 0)
    assert np.isfinite(ends).all()
    assert np.array_equal(training_codes(probs, 1.0, 0), training_codes(probs, 1.0, 0))
    assert not np.array_equal(training_codes(probs, 1.0, 0), training_codes(probs, 1.0, 1))


def test_folds_test_every_row_once_and_noise_costs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    target = Target("labels", np.eye(2, dtype=np.uint8)[labels], ("a", "b"), exclusive=True)
    sure = np.stack([labels * 0.998 + 0.001, rng.random(1000)], axis=1)
    unsure = np.stack([labels * 0.4 + 0.3, rng.random(1000)], axis=1)
    high, low = (paper_scores(probs, [target], 1.0)[0] for probs in (sure, unsure))
    assert high.mean > 0.98 and len(high.folds) == 5 and high.rows == 1000
    assert high.mean == pytest.approx(np.mean(high.folds)) and high.spread == pytest.approx(
        np.std(high.folds)
    )
    # The probability tells the class for sure; the noisy code tells it 70% of the time: ± 5 √(0.21/1000) = 0.07.
    assert low.mean == pytest.approx(0.7, abs=0.07)


def test_codes_of_single_bits_alone():
    check_bits(np.full(8, 2))
    with pytest.raises(UserError, match="the table's codes are variables of 16 values"):
        check_bits(np.full(2, 16))


def test_what_it_needs():
    target = Target("labels", np.eye(2, dtype=np.uint8)[[0, 1]], ("a", "b"), exclusive=True)
    with pytest.raises(UserError, match=r"^the bit table has no probabilities$"):
        paper_scores(None, [target], 1.0)
    with pytest.raises(UserError, match=r"^2 rows cannot be split into 5 folds$"):
        paper_scores(np.zeros((2, 3)), [target], 1.0)
