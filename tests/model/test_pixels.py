"""Grey levels and channels keep their places on the way to the model and back."""

import numpy as np
import pytest
import torch

from dmzcli.model.pixels import to_uint8, to_unit


def test_grey_levels_go_both_ways():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    unit = to_unit(levels)
    assert unit.shape == (1, 1, 16, 16) and unit.dtype == torch.float32
    assert (unit.min().item(), unit.max().item()) == (-1, 1)
    assert np.array_equal(to_uint8(unit), levels)


def test_channels_keep_their_places():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    unit = to_unit(images)
    assert unit.shape == (2, 3, 4, 5)
    assert unit[1, 2, 3, 4] == pytest.approx(images[1, 3, 4, 2] / 127.5 - 1)
    assert np.array_equal(to_uint8(unit), images)


def test_values_beyond_the_range_are_clamped_and_rounded():
    unit = torch.tensor([-7.0, -1.0, 0.0, 1.0, 9.0]).reshape(1, 1, 1, 5)
    assert to_uint8(unit).ravel().tolist() == [0, 0, 128, 255, 255]
    given = unit.clone()
    to_uint8(given)
    assert torch.equal(given, unit)  # not in place
