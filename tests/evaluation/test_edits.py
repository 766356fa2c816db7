"""Edits, judged by a classifier whose answers are known."""

import numpy as np
import pytest

from dmzcli.analysis.flips import Locks, Probes, Rule
from dmzcli.evaluation import edits as measures
from dmzcli.evaluation.edits import Edits, judge_for, judged, make_edits, other_classes, sheet_of
from dmzcli.generation.recipe import Recipe


def planted(levels):
    """Edits whose images are one gray level each: original, reconstruction, edited, random, (4, N)."""
    images = [
        np.full((1, 2, 2, 1), 1, np.uint8) * np.array(row, np.uint8)[:, None, None, None] for row in levels
    ]
    count = len(levels[0])
    bits = np.zeros((count, 4), np.uint8)
    flipped = bits.copy()
    flipped[:, :2] = 1
    return Edits(
        np.zeros(count, int), bits, flipped, flipped, *images, odds=(np.zeros(count), np.ones(count))
    )


def judge(images):
    """p(target) = level / 200, of two others three quarters and a quarter of the rest."""
    p = images[:, 0, 0, 0] / 200.0
    return np.stack([p, 0.75 * (1 - p), 0.25 * (1 - p)], 1)


EDITS = planted([[20, 20, 20, 20], [40, 40, 40, 40], [60, 120, 180, 20], [40, 42, 40, 10]])


def test_shares_and_changes_are_against_the_reconstruction():
    facts = judged(EDITS, judge, Rule(1))
    assert facts["target"]["edited"]["value"] == pytest.approx(95 / 200)
    assert facts["edited"]["target_change"]["value"] == pytest.approx(95 / 200 - 0.2)
    assert facts["edited"]["target_rose"]["value"] == 0.75 and facts["random"]["target_rose"]["value"] == 0.25
    assert facts["edited"]["target_rose_from_original"]["value"] == 0.75  # equal is not risen
    assert facts["edited"]["past_half"]["value"] == 0.5 and facts["past_half_without_flips"]["value"] == 0
    # Each other moves by its part of |Δp|, on average by half of it.
    assert facts["edited"]["others"]["value"] == pytest.approx(np.mean([0.1, 0.4, 0.7, 0.1]) / 2)
    assert facts["edited"]["pixels"]["value"] == pytest.approx(np.mean([40, 100, 160, 0]) / 255)


def test_lowering_counts_the_other_way():
    facts = judged(EDITS, judge, Rule(-1))
    assert facts["edited"]["target_rose"]["value"] == 0.25 and facts["edited"]["past_half"]["value"] == 0.5


def test_wilsons_interval():
    """Of 160 among 200: (0.8 + z²/400 ± z √(0.16/200 + z²/160000)) / (1 + z²/200), z = 1.96."""
    found = measures.share(np.arange(200) < 160)["interval_95"]
    z2 = 1.959964**2
    half = np.sqrt(z2) * np.sqrt(0.16 / 200 + z2 / 160_000)
    expected = (0.8 + z2 / 400 + np.array([-half, half])) / (1 + z2 / 200)
    assert found == pytest.approx(expected, abs=1e-6)


def test_other_classes_are_others_and_of_the_image_alone():
    labels = np.arange(300) % 3
    drawn = other_classes(labels, 3, seed=0)
    assert (drawn != labels).all() and set(drawn) == {0, 1, 2}
    assert (other_classes(labels[:10], 3, seed=0) == drawn[:10]).all()


def test_an_edit_flips_as_many_as_its_control(model, digits):
    rng = np.random.default_rng(1)
    probes = Probes("labels", ("a", "b"), rng.normal(size=(model.dim, 2)), np.full(2, -2.0), 1.0, 1.0)
    columns = np.arange(6) % 2
    made = make_edits(
        model, digits.images[:6], columns, probes, Locks.none(model.dim), Rule(1, 0.9, 3), Recipe("ddim", 5)
    )
    assert ((made.bits != made.random_bits).sum(1) == made.flips).all()
    assert made.flips.max() <= 3 and made.flips.sum() > 0
    before, after = (probes.log_odds(codes)[np.arange(6), columns] for codes in (made.bits, made.edited_bits))
    np.testing.assert_allclose(made.odds, (before, after))
    # An image without flips is its reconstruction, with and without the control.
    still = made.flips == 0
    assert (made.edited[still] == made.reconstructions[still]).all()
    assert sheet_of(made, [str(i) for i in range(6)], 3).shape[2] == 3


def test_the_judge_has_not_learned_from_the_split(digits, monkeypatch):
    from dmzcli.evaluation import classifier_training as training

    monkeypatch.setattr(training, "STEPS", 20)
    names = tuple(reversed(digits.label_names))
    probes = Probes("labels", names, np.zeros((4, 10)), np.zeros(10), 1.0, 1.0)
    for split, learned in (("train", "valid"), ("test", "train"), ("", "train")):
        made = judge_for(digits, probes, split, None)
        assert made.trained.trained_split == learned
    probabilities = made(digits.images[:50])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    logits = made.trained.model(measures.to_unit(digits.images[:50]))[1]
    assert (probabilities.argmax(1) == 9 - logits.argmax(1).numpy()).all()  # in the probes' order
