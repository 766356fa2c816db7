"""The digits' split is fixed for ever: results of different versions stay comparable."""

import numpy as np

from dmzcli.data import SPLITS, load


def test_digits_are_frozen():
    dataset = load("digits")
    assert dataset.identity == "digits/8x8x1/5a29fc87939d"
    assert [len(dataset.rows(split)) for split in SPLITS] == [1197, 200, 400]
    assert dataset.images.max() == 255 and not dataset.lossy


def test_each_digit_keeps_its_share_in_every_split():
    dataset = load("digits")
    for split in SPLITS:
        counts = np.bincount(dataset.labels[dataset.rows(split)], minlength=10)
        assert counts.max() - counts.min() <= max(2, 0.06 * counts.max())
