"""Measures of samples: what they say where the answer is known."""

import numpy as np
import pytest

import priors
from priors.measures import nearest_distances, two_sample_accuracy


def _codes(seed, count, dim, probability=0.5):
    return (np.random.default_rng(seed).random((count, dim)) < probability).astype(np.uint8)


def test_equal_distributions_cannot_be_told_apart():
    told = two_sample_accuracy(_codes(0, 2000, 8), _codes(1, 2000, 8))
    assert told.n == 2000
    assert told.error == pytest.approx(0.5 / np.sqrt(2000))
    # Under equality the accuracy is a mean of n fair coins: 4 standard errors fail once in 16,000.
    assert abs(told.accuracy - 0.5) < 4 * told.error


def test_dependence_that_marginals_hide_is_seen():
    copied = _codes(0, 2000, 8)
    copied[:, 1] = copied[:, 0]
    # The best rule says "copied" where bits 0 and 1 agree: it is right on all copied codes and on half the others.
    told = two_sample_accuracy(copied, _codes(1, 2000, 8))
    assert abs(told.accuracy - 0.75) < 4 * told.error + 0.02


def test_accuracy_depends_on_the_seed_alone():
    a, b = _codes(0, 300, 8), _codes(1, 200, 8, 0.7)
    assert two_sample_accuracy(a, b, seed=3) == two_sample_accuracy(a, b, seed=3)


def test_nearest_distances_are_those_of_all_pairs():
    codes, references = _codes(0, 50, 13), _codes(1, 70, 13)
    pairs = (codes[:, None] != references[None]).sum(2)
    assert (nearest_distances(codes, references) == pairs.min(1)).all()


def test_blocks_change_nothing(monkeypatch):
    codes, references = _codes(0, 50, 13), _codes(1, 70, 13)
    whole = nearest_distances(codes, references)
    monkeypatch.setattr("priors.measures.BLOCK", 7)
    assert (nearest_distances(codes, references) == whole).all()


def test_too_few_or_foreign_codes_are_refused():
    with pytest.raises(priors.PriorError, match="there are 10 codes of either kind; expected at least 20"):
        two_sample_accuracy(_codes(0, 10, 4), _codes(1, 30, 4))
    with pytest.raises(priors.PriorError, match="held_out has 5 columns; expected 4"):
        two_sample_accuracy(_codes(0, 30, 4), _codes(1, 30, 5))
    for seed in (-1, 2**64, 0.5):
        with pytest.raises(priors.PriorError, match=f"seed is {seed}; expected"):
            two_sample_accuracy(_codes(0, 30, 4), _codes(1, 30, 4), seed=seed)
    with pytest.raises(priors.PriorError, match="references holds the value 2"):
        nearest_distances(_codes(0, 30, 4), np.full((3, 4), 2, np.uint8))
