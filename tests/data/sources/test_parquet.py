"""Parquet files of Hugging Face's image layout."""

import sys

import numpy as np
import pytest

from dmzcli.data import SPLITS, load
from dmzcli.errors import UserError


@pytest.fixture
def pyarrow():
    return pytest.importorskip("pyarrow")


def pictures(make, count, start=0):
    return [make.picture(start + i, (4, 4), "L") for i in range(count)]


def test_one_file(pyarrow, make, tmp_path):
    path = make.parquet(
        tmp_path / "pets.parquet", pictures(make, 20), [i % 2 for i in range(20)], ("cat", "dog")
    )
    dataset = load(str(path))
    assert dataset.name == "pets" and dataset.label_names == ("cat", "dog")
    np.testing.assert_array_equal(dataset.images[:, 0, 0, 0], np.arange(20))
    np.testing.assert_array_equal(dataset.labels, np.arange(20) % 2)
    assert [len(dataset.rows(split)) for split in SPLITS] == [16, 2, 2] and dataset.names[
        3
    ] == "pets.parquet/3"


@pytest.mark.parametrize("folder", ["", "data/"])
def test_files_are_named_by_their_splits(folder, pyarrow, make, tmp_path):
    for name, count, start in (
        ("train-00000-of-00002", 6, 0),
        ("train-00001-of-00002", 4, 6),
        ("validation-00000-of-00001", 3, 10),
        ("test-00000-of-00001", 2, 13),
    ):
        make.parquet(tmp_path / "pets" / f"{folder}{name}.parquet", pictures(make, count, start), [0] * count)
    dataset = load("pets", data_dir=tmp_path)
    assert [len(dataset.rows(split)) for split in SPLITS] == [10, 3, 2]
    np.testing.assert_array_equal(np.sort(dataset.images[dataset.rows("train"), 0, 0, 0]), np.arange(10))
    np.testing.assert_array_equal(dataset.images[dataset.rows("test"), 0, 0, 0], [13, 14])


def test_unlabelled_and_bad_rows(pyarrow, make, tmp_path):
    path = make.parquet(tmp_path / "a.parquet", [*pictures(make, 5), b"broken"])
    with pytest.raises(UserError, match=r"a\.parquet/5 is damaged"):
        load(str(path))
    dataset = load(str(path), skip_bad=True)
    assert len(dataset) == 5 and dataset.labels is None and "a.parquet/5" in dataset.notes[-1]


def test_a_cached_pack_is_the_same(pyarrow, make, tmp_path):
    path = make.parquet(tmp_path / "a.parquet", pictures(make, 5), [0, 1, 0, 1, 2])
    assert load(str(path), cache=True).identity == load(str(path)).identity


def test_foreign_files(pyarrow, make, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"a\.parquet is truncated or no Parquet file"):
        load(str(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet has no column 'image', but text"):
        load(str(tmp_path / "b.parquet"))
    pq.write_table(pa.table({"image": [1]}), tmp_path / "c.parquet")
    with pytest.raises(UserError, match=r"c\.parquet: the column 'image' is int64, without the bytes"):
        load(str(tmp_path / "c.parquet"))
    make.parquet(tmp_path / "d.parquet", pictures(make, 2), [0, 2], ("cat", "dog"))
    with pytest.raises(UserError, match="has the label 2, but names for 2 classes only"):
        load(str(tmp_path / "d.parquet"))


def test_without_pyarrow(make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="reading Parquet files needs pyarrow") as caught:
        load(str(tmp_path / "a.parquet"))
    assert "pip install 'dmz[parquet]'" in caught.value.hint
