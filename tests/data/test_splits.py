"""Laws of the hold-outs."""

import numpy as np
import pytest

from dmzcli.data.splits import hold_out, numbered, shares

FROZEN = [0, 10, 24, 25, 26, 31, 35, 37]


def test_shares_sum_up_and_never_exceed():
    rng = np.random.RandomState(0)
    for _ in range(200):
        sizes = rng.randint(0, 30, rng.randint(1, 12))
        count = rng.randint(0, sizes.sum() + 1)
        taken = shares(sizes, count)
        assert taken.sum() == count and (taken <= sizes).all()
        assert (np.abs(taken - sizes * count / max(sizes.sum(), 1)) < 1).all()


def test_shares_refuse_more_than_there_is():
    with pytest.raises(ValueError, match="cannot take 4 of 3 items"):
        shares(np.array([2, 1]), 4)


def test_hold_out_is_stratified_and_frozen():
    held = hold_out(numbered("x", 40), np.arange(40) % 4, 8)
    np.testing.assert_array_equal(np.bincount(held % 4), [2, 2, 2, 2])
    np.testing.assert_array_equal(held, FROZEN)
    assert held.dtype == np.int64


def test_the_choice_does_not_depend_on_the_order():
    keys, labels = numbered("x", 60), np.arange(60) % 3
    order = np.random.RandomState(1).permutation(60)
    held = hold_out(keys, labels, 13)
    shuffled = hold_out([keys[i] for i in order], labels[order], 13)
    assert sorted(order[shuffled]) == held.tolist()


def test_unlabelled_and_empty():
    assert len(hold_out(numbered("x", 10), None, 3)) == 3
    assert len(hold_out([], None, 0)) == 0
