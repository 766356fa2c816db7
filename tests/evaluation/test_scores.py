"""Scores against closed forms, and their errors against what repeated sampling shows."""

import numpy as np
import pytest

from dmzcli.evaluation import scores
from dmzcli.evaluation.scores import (
    Moments,
    Score,
    frechet,
    inception_score,
    jackknife,
    kernel_distance,
    precision_recall,
)

WIDTH = 5


def normal(seed, count, shift=0.0, mix=None):
    x = np.random.default_rng(seed).normal(size=(count, WIDTH)) + shift
    return (x if mix is None else x @ mix.T).astype(np.float32)


def test_identical_sets_are_at_no_distance():
    x = normal(0, 500)
    assert frechet(x, Moments.of(x)).value == pytest.approx(0, abs=1e-9)
    assert kernel_distance(x, x).value < 0.01  # the unbiased estimate is a little below 0 here
    precision, recall = precision_recall(x, x)
    assert (precision.value, recall.value) == (1, 1)


def test_frechet_of_two_gaussians_is_the_closed_form():
    """‖μ‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½); with diagonal covariances the last term is 2 Σ σ₁σ₂."""
    first, second = np.array([1, 2, 0.5, 1, 3.0]), np.array([2, 1, 1, 0.5, 1.0])
    exact = WIDTH * 0.7**2 + ((first - second) ** 2).sum()
    a = normal(1, 100_000) * first + np.float32(0.7)
    b = normal(2, 100_000) * second
    # Means err by σ/√N ≈ 0.01 each, entering linearly with factor 2·0.7, and deviations by σ/√(2N).
    assert frechet(a, Moments.of(b)).value == pytest.approx(exact, abs=0.15)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(WIDTH, WIDTH)))[0]
    turned = frechet((a @ turn).astype(np.float32), Moments.of((b @ turn).astype(np.float32)))
    assert turned.value == pytest.approx(frechet(a, Moments.of(b)).value, rel=1e-4)


def test_kernel_distance_is_the_closed_form():
    """Points of one coordinate, shifted: E k(x, x') of the cubic kernel follows from the moments of a normal."""

    def expected(m):  # E (x y + 1)³ for x ~ N(m, 1), y ~ N(0, 1) or both: by moments of independent normals
        def cube(a1, a2, a3, b1, b2, b3):
            return a3 * b3 + 3 * a2 * b2 + 3 * a1 * b1 + 1

        shifted, plain = (m, 1 + m**2, m**3 + 3 * m), (0, 1, 0)
        return cube(*shifted, *shifted) + cube(*plain, *plain) - 2 * cube(*shifted, *plain)

    rng = np.random.default_rng(4)
    a, b = (rng.normal(m, 1, size=(4_000, 1)).astype(np.float32) for m in (0.8, 0))
    found = kernel_distance(a, b)
    # Both sets err, by about as much: √2 of the error that is claimed for one of them.
    assert abs(found.value - expected(0.8)) < 4 * 2**0.5 * found.error
    assert 0 < found.error < expected(0.8) / 5


def test_inception_score_of_sure_and_balanced_classes_is_their_number():
    logits = np.eye(7, dtype=np.float32)[np.arange(7000) % 7] * 100
    assert inception_score(logits).value == pytest.approx(7, rel=0.01)
    assert inception_score(np.zeros((700, 7), np.float32)).value == pytest.approx(1)


def test_precision_falls_with_outliers_and_recall_with_missing_modes():
    real = np.concatenate([normal(5, 400, 0), normal(6, 400, 50)])
    half_wrong = np.concatenate([normal(7, 200, 0), normal(8, 200, 500)])
    precision, recall = precision_recall(half_wrong, real)
    assert precision.value < 0.55 and recall.value < 0.55


@pytest.mark.parametrize("which", ["fid", "kid", "is", "precision", "recall"])
def test_errors_are_those_of_repeated_sampling(which):
    """The mean standard error of 30 sets beside the spread of their 30 values.

    A spread of 30 values is itself known to ± 13 %, and the jackknife is a little too large for statistics that are not
    smooth (recall counts balls); the bounds are a factor of 2.
    """
    reference = normal(9, 400)
    mix = np.diag([1.3, 1, 1, 0.8, 1])

    def score(seed):
        made = normal(100 + seed, 400, 0.2, mix)
        if which == "fid":
            return frechet(made, Moments.of(reference))
        if which == "kid":
            return kernel_distance(made, reference)
        if which == "is":
            return inception_score(2 * made)
        return precision_recall(made, reference)[which == "recall"]

    found = [score(seed) for seed in range(30)]
    spread, claimed = np.std([s.value for s in found]), np.mean([s.error for s in found])
    assert spread / 2 < claimed < 2 * spread
    low, high = found[0].interval
    assert high - low == pytest.approx(2 * 1.96 * found[0].error)


def test_leaving_groups_out_by_sums_equals_leaving_them_out():
    made, reference = normal(10, 203), Moments.of(normal(11, 300))
    member = scores.groups(len(made))
    direct = [frechet(made[member != g], reference).value for g in range(scores.GROUPS)]
    assert scores._frechet_left_out(made, reference) == pytest.approx(direct, rel=1e-6)


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(12).normal(size=40)
    left_out = [np.delete(values, i).mean() for i in range(40)]
    assert jackknife(left_out) == pytest.approx(values.std(ddof=1) / np.sqrt(40))


CLASSES = 10


def of_classes(seed, count, drawn):
    """Images of ten far classes: in turns, or as chance has it; and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count) if drawn else np.arange(count) % CLASSES
    centers = np.random.default_rng(99).normal(size=(CLASSES, WIDTH)) * 4
    return (centers[labels] + rng.normal(size=(count, WIDTH))).astype(np.float32), labels


@pytest.mark.parametrize(("drawn", "told"), [(True, False), (False, True)])
def test_intervals_hold_the_expected_value_with_and_without_classes(drawn, told):
    """95% of intervals should hold it; of 100 sets, 88 or fewer would be a chance of one in a hundred."""
    reference = Moments.of(of_classes(5, 4000, False)[0])

    def score(seed):
        made, labels = of_classes(1000 + seed, 600, drawn)
        return frechet(made, reference, strata=labels if told else None)

    found = [score(seed) for seed in range(100)]
    expected, spread = np.mean([s.value for s in found]), np.std([s.value for s in found])
    inside = sum(s.interval[0] <= expected <= s.interval[1] for s in found)
    assert inside >= 89
    assert np.mean([s.error for s in found]) < 2 * spread  # no interval that holds all and says nothing


@pytest.mark.parametrize("count", [600, 601])
def test_groups_hold_every_class_even_where_classes_take_turns(count):
    labels = np.arange(count) % CLASSES
    chance, even = scores.groups(count), scores.groups(count, labels)
    for member in (chance, even):
        assert np.bincount(member).max() - np.bincount(member).min() <= 1
        assert all(len(set(labels[member == g])) >= CLASSES - 2 for g in range(scores.GROUPS))
    counts = np.array([np.bincount(labels[even == g], minlength=CLASSES) for g in range(even.max() + 1)])
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("classes", "each", "parts"), [(10, 10, 10), (100, 10, 10), (10, 50, 10), (10, 100, 20)]
)
def test_groups_share_classes_alike_where_a_number_of_groups_divides_them(classes, each, parts):
    labels = np.arange(classes * each) % classes
    member = scores.groups(len(labels), labels)
    assert set(member) == set(range(parts))
    counts = [np.bincount(labels[member == g], minlength=classes) for g in range(parts)]
    assert (np.array(counts) == each // parts).all()


def test_a_subset_keeps_classes_that_take_turns_and_classes_in_blocks():
    for labels in (np.arange(20_000) % CLASSES, np.arange(20_000) * CLASSES // 20_000):
        counts = np.bincount(labels[scores.subset(20_000, 10_000)], minlength=CLASSES)
        assert counts.sum() == 10_000 and abs(counts - 1000).max() < 100
    rows = scores.subset(1003, 50)
    assert len(set(rows)) == 50 and (np.diff(rows) > 0).all() and rows[-1] < 1003


def test_a_paired_difference_is_tighter_than_the_two_scores_apart():
    reference = Moments.of(normal(20, 500))
    pairs = [(normal(50 + i, 400, 0.30), normal(50 + i, 400, 0.25)) for i in range(40)]
    found = [scores.difference(frechet(a, reference), frechet(b, reference)) for a, b in pairs]
    spread = np.std([f.value for f in found])
    assert spread / 1.6 < np.mean([f.error for f in found]) < 1.6 * spread
    assert found[0].error < frechet(pairs[0][0], reference).error / 2
    with pytest.raises(ValueError, match="groups"):
        scores.difference(frechet(pairs[0][0], reference), scores.Score("fid", 1.0, 0.1))


@pytest.mark.parametrize(
    ("metric", "low"), [("fid", 0.0), ("fid-classifier", 0.0), ("kid", 1 - 1.96), ("psnr", 1 - 1.96)]
)
def test_the_interval_of_a_frechet_distance_ends_at_zero(metric, low):
    """An unbiased kernel distance may be below zero; a Fréchet distance is a square."""
    assert Score(metric, 1.0, 1.0).interval == pytest.approx((low, 1 + 1.96))


@pytest.mark.parametrize(
    ("metric", "value", "interval"),
    [
        ("fid-classifier", 0.1, (0.0, 0.296)),
        ("recall-classifier", 0.95, (0.754, 1.0)),
        ("precision", 0.1, (0.0, 0.296)),
        ("kid", 0.1, (-0.096, 0.296)),  # unbiased, and below 0 by chance
        ("difference of fid", -0.1, (-0.296, 0.096)),
    ],
)
def test_intervals_end_where_a_score_cannot_go(metric, value, interval):
    assert scores.Score(metric, value, 0.1).interval == pytest.approx(interval)
