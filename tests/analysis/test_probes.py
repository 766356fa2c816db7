"""Probes: what is measured on which split, and beside what."""

import dataclasses
import os

import numpy as np
import pytest
import torch

from dmzcli.analysis.probes.linear import INVERSE_STRENGTHS, probe
from dmzcli.analysis.probes.representations.untrained import untrained_bits
from dmzcli.analysis.probes.table import probe_table
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError

CPU = torch.device("cpu")


def task(classes=3, width=6, noise=0.0, rows=300, seed=0):
    """One-hot features of the label, some of them turned."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    features = np.zeros((rows, width), np.float32)
    features[np.arange(rows), labels] = 1
    turned = rng.random((rows, width)) < noise
    parts = np.split(np.arange(rows), [rows // 2, 3 * rows // 4])
    return np.abs(features - turned), labels, dict(zip(("train", "valid", "test"), parts, strict=True))


def test_what_is_linearly_readable_is_read():
    features, labels, rows = task()
    made = probe("bits", features, labels, rows, 3)
    assert (made.test_accuracy, made.valid_accuracy, made.features, made.converged) == (1.0, 1.0, 6, True)
    assert made.inverse_strength in INVERSE_STRENGTHS
    assert np.array_equal(made.confusion, np.diag(np.bincount(labels[rows["test"]], minlength=3)))


def test_what_is_not_there_is_not_read():
    features, labels, rows = task(rows=3000)
    shuffled = np.random.default_rng(1).permutation(labels)
    made = probe("bits", features, shuffled, rows, 3)
    # 750 test images of three classes: a guess is right 1/3 of the time, ± 5 · √(2/9/750) = 0.086.
    assert made.test_accuracy == pytest.approx(1 / 3, abs=0.086)


def test_accuracy_is_that_of_the_confusion_on_test():
    features, labels, rows = task(noise=0.2)
    made = probe("bits", features, labels, rows, 3)
    assert 0.4 < made.test_accuracy < 1
    assert made.confusion.sum() == len(rows["test"])
    assert made.test_accuracy == pytest.approx(np.trace(made.confusion) / made.confusion.sum())
    assert made.confusion.sum(1).tolist() == np.bincount(labels[rows["test"]], minlength=3).tolist()


def test_test_images_choose_nothing():
    """Other labels on test change the reported accuracy, and neither the fit nor the choice."""
    features, labels, rows = task(noise=0.2)
    other = labels.copy()
    other[rows["test"]] = (other[rows["test"]] + 1) % 3
    one, two = (probe("bits", features, given, rows, 3) for given in (labels, other))
    assert (one.inverse_strength, one.valid_accuracy) == (two.inverse_strength, two.valid_accuracy)
    assert one.confusion.sum(0).tolist() == two.confusion.sum(0).tolist()  # the same predictions
    assert one.test_accuracy != two.test_accuracy


def test_classes_that_train_lacks_are_counted_as_missed():
    features, labels, rows = task(classes=2, width=4)
    labels[rows["test"][:5]] = 3
    assert probe("bits", features, labels, rows, 4).confusion.shape == (4, 4)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_empty_splits_are_named(split):
    features, labels, rows = task()
    with pytest.raises(UserError, match=rf"^the split '{split}' is empty$"):
        probe("bits", features, labels, {**rows, split: np.array([], int)}, 3)


def test_one_label_is_no_task():
    features, labels, rows = task()
    with pytest.raises(UserError, match=r"^all training images have one label$"):
        probe("bits", features, np.zeros_like(labels), rows, 3)


# The table -----------------------------------------------------------------------------------------------------


def test_three_probes_of_one_table(run, digits):
    table = BitTable.read(run.bits)
    made = {p.name: p for p in probe_table(table, digits, run.config, CPU)}
    assert list(made) == ["bits", "untrained bits", "pixels"]
    assert [p.features for p in made.values()] == [8, 8, 64]
    assert made["pixels"].test_accuracy > 0.9  # logistic regression on digits' pixels is known to do that
    assert made["pixels"].test_accuracy > made["bits"].test_accuracy > 0.1
    facts = made["bits"].facts()
    assert np.array_equal(facts["confusion"], made["bits"].confusion) and isinstance(facts["confusion"], list)


def test_bits_alone_without_the_dataset(run):
    assert [p.name for p in probe_table(BitTable.read(run.bits), None, None, CPU)] == ["bits"]


def test_rows_are_matched_by_their_index(run, digits):
    """A table in another order is the same representation of the same images."""
    table = BitTable.read(run.bits)
    order = np.random.default_rng(0).permutation(len(table.bits))
    changed = {name: getattr(table, name)[order] for name in ("bits", "split", "index", "labels", "probs")}
    turned = dataclasses.replace(table, **changed)
    # In the wrong order pixels would tell nothing of the labels; in the right one, nearly all.
    assert probe_table(turned, digits, run.config, CPU)[2].test_accuracy > 0.9


def test_another_dataset_is_refused(run, few):
    with pytest.raises(
        UserError, match=r"^the dataset is digits-subset/160, but the table was made from digits/"
    ):
        probe_table(BitTable.read(run.bits), few, run.config, CPU)


def test_unlabelled_tables_are_refused(run):
    table = dataclasses.replace(BitTable.read(run.bits), labels=None, label_names=())
    with pytest.raises(UserError, match=r"^the bit table has no labels$"):
        probe_table(table, None, None, CPU)


def test_untrained_bits_are_no_straw_man(tiny, few):
    """Bits of a fresh encoder, with measured batch statistics: hardly any is constant."""
    made = untrained_bits(tiny(model__bits=64), few, CPU)
    assert made.shape == (160, 64) and made.dtype == np.uint8
    means = made.mean(0)
    assert ((means > 0.02) & (means < 0.98)).mean() > 0.5
    assert np.array_equal(made, untrained_bits(tiny(model__bits=64), few, CPU))
    assert not np.array_equal(made, untrained_bits(tiny(model__bits=64, training__seed=1), few, CPU))


def test_probe_where_no_run_made_the_table(dmz, workshop):
    os.rename("runs/tiny/bits.h5", "t.h5")
    os.rename("runs", "moved")
    ended = dmz("probe", "t.h5", "--json")
    assert [p["name"] for p in ended.json["probes"]] == ["bits", "probabilities"]
    assert "no run has the weights that made t.h5" in ended.err
