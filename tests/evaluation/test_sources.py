"""What an evaluation compares with is read as training would read it, without asking a U-Net."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dmzcli.evaluation.sources import reference_data, usual_features


@pytest.mark.parametrize(("against", "size"), [("cifar10", 28), ("celeba", 128)])
def test_a_reference_has_any_size(against, size):
    """The preset's U-Net cannot be built at these sizes."""
    data = reference_data(against, None, [f"data.size={size}"], Path("there"))
    assert (data.dataset, data.size, data.data_dir) == (against, size, "there")


def test_a_reference_by_its_path(tmp_path):
    (tmp_path / "pets").mkdir()
    assert reference_data(str(tmp_path / "pets"), None, (), None).dataset == str(tmp_path / "pets")


@pytest.mark.parametrize(
    ("channels", "valid", "split", "features"),
    [
        (3, 2000, "train", "inception"),
        (1, 2000, "train", "classifier-valid"),
        (1, 2000, "test", "classifier"),
        (1, 20, "train", "classifier"),  # too few to learn from
    ],
)
def test_usual_features_have_not_seen_the_reference(channels, valid, split, features):
    dataset = SimpleNamespace(images=np.zeros((1, 8, 8, channels)), rows=lambda name: np.arange(valid))
    assert usual_features(dataset, split) == features
