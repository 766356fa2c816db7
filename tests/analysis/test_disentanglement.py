"""DCI and TAD where their values are known."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dmzcli.analysis.disentanglement import (
    Factor,
    dci,
    factors_of,
    measured,
    scores_of,
    shared_entropy,
    single_aurocs,
    tad,
)
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError


def test_importance_matrices_with_known_scores():
    assert scores_of(np.eye(3)) == pytest.approx((1, 1))
    assert scores_of(np.ones((4, 3))) == pytest.approx((0, 0))
    # Two numbers tell the one factor alike, the third the other: each number is pure; one factor of two is spread over
    # two of three numbers, H = log 2 / log 3.
    some = np.array([[1.0, 0], [1, 0], [0, 2]])
    assert scores_of(some) == pytest.approx((1, (2 - np.log(2) / np.log(3)) / 2))


def tables():
    rng = np.random.default_rng(0)
    color, size = rng.integers(0, 4, 1600), rng.integers(0, 2, 1600)
    attributes = np.concatenate([np.eye(4)[color], size[:, None]], axis=1).astype(np.uint8)
    bits = np.stack([color // 2, color % 2, size, rng.integers(0, 2, 1600)], axis=1)
    return BitTable(
        bits=bits.astype(np.uint8),
        split=np.repeat([0, 1, 2], [800, 400, 400]).astype(np.uint8),
        index=np.arange(1600),
        family="bernoulli",
        cardinalities=np.full(4, 2),
        dataset="made/1x1x1/0",
        model="0" * 64,
        created="now",
        attributes=attributes,
        attribute_names=("color=0", "color=1", "color=2", "color=3", "large"),
    )


def test_levels_of_one_factor_belong_together():
    factors = factors_of(tables())
    assert [factor.name for factor in factors] == ["color", "large"]
    assert np.array_equal(factors[0].levels, tables().attributes[:, :4].argmax(1))
    twice = dataclasses.replace(
        tables(), attributes=np.ones((1600, 5), np.uint8)
    )  # all at once are no levels
    assert len(factors_of(twice)) == 5


def test_pure_bits_are_disentangled_and_mixed_ones_are_not():
    table = tables()
    pure = measured("bits", table.bits.astype(np.float32), table)
    assert pure["dci"]["disentanglement"] > 0.95 and pure["dci"]["informativeness"] > 0.99
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    mixed = measured("mixed", (table.bits @ turn).astype(np.float32), table)
    assert mixed["dci"]["disentanglement"] < pure["dci"]["disentanglement"] - 0.2
    # One bit is the size, no other tells of it: AUROC 1 less one near 1/2, ± 5 √(1/12 · 4/400) = 0.14. A color is two
    # bits; each by itself tells it with an AUROC of 5/6, and the second as well: a difference near 0.
    assert pure["tad"]["captured"]["large"] == pytest.approx(0.5, abs=0.14)
    assert all(pure["tad"]["captured"][f"color={i}"] < 0.1 for i in range(4))


def test_single_aurocs_are_scikit_learns():
    rng = np.random.default_rng(0)
    features, marks = rng.integers(0, 5, (200, 3)), rng.integers(0, 2, (200, 2))
    made = single_aurocs(features, marks)
    for i in range(3):
        for j in range(2):
            theirs = roc_auc_score(marks[:, j], features[:, i])
            assert made[i, j] == pytest.approx(max(theirs, 1 - theirs), abs=1e-12)


def test_attributes_that_tell_each_other_are_not_captured():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 2, (2, 500))
    marks = np.stack([one, one, two], axis=1)
    assert shared_entropy(marks) == pytest.approx([1, 1, 0], abs=0.03)
    assert list(tad(np.stack([one, two], axis=1), marks, ("a", "b", "c")).captured) == ["c"]


def test_one_factor_is_not_enough():
    rows = {"train": np.arange(4), "valid": np.arange(4), "test": np.arange(4)}
    factor = Factor("class", np.array([0, 1, 0, 1]))
    with pytest.raises(
        UserError, match=r"^disentanglement needs two factors that vary, and the bit table has 1$"
    ):
        dci(np.zeros((4, 2), np.float32), [factor, Factor("same", np.zeros(4, int))], rows)
