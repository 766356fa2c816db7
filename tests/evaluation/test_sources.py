"""What an evaluation compares with is read as training would read it, without asking a U-Net."""

from pathlib import Path

import pytest

from dmzcli.evaluation.sources import reference_data


@pytest.mark.parametrize(("against", "size"), [("cifar10", 28), ("celeba", 128)])
def test_a_reference_has_any_size(against, size):
    """The preset's U-Net cannot be built at these sizes."""
    data = reference_data(against, None, [f"data.size={size}"], Path("there"))
    assert (data.dataset, data.size, data.data_dir) == (against, size, "there")


def test_a_reference_by_its_path(tmp_path):
    (tmp_path / "pets").mkdir()
    assert reference_data(str(tmp_path / "pets"), None, (), None).dataset == str(tmp_path / "pets")
