"""Fashion-MNIST's files in every usual place, and every way in which an IDX file can be wrong."""

import gzip

import numpy as np
import pytest

from dmzcli.data import SPLITS, load, status
from dmzcli.data.formats.idx import read_idx
from dmzcli.errors import UserError


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("place", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_every_usual_place(place, gzipped, make, tmp_path):
    make.fashion(tmp_path / place, gzipped=gzipped)
    dataset = load("fashion-mnist", data_dir=tmp_path)
    assert dataset.images.shape == (140, 28, 28, 1)
    assert [len(dataset.rows(split)) for split in SPLITS] == [110, 10, 20]
    np.testing.assert_array_equal(dataset.images[:120, 5, 7, 0], np.arange(120))  # the source's order
    np.testing.assert_array_equal(dataset.images[120:, 5, 7, 0], np.arange(20))
    np.testing.assert_array_equal(dataset.labels[:12], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 9, 8])
    np.testing.assert_array_equal(np.sort(dataset.labels[dataset.rows("valid")]), np.arange(10))


def test_default_places(make, tmp_path, monkeypatch):
    monkeypatch.setattr("dmzcli.data.registry.DEBIAN", tmp_path / "debian")
    with pytest.raises(UserError, match=r"fashion-mnist is not in data, .*debian"):
        load("fashion-mnist")
    make.fashion(tmp_path / "debian" / "fashion-mnist")
    assert len(load("fashion-mnist")) == 140


def test_published_split():
    """Frozen: 5,000 of the official 60,000, 500 of each class."""
    row = next(row for row in status() if row["name"] == "fashion-mnist")
    if not row["present"]:
        pytest.skip("Fashion-MNIST is not on this machine")
    dataset = load("fashion-mnist")
    assert dataset.identity == "fashion-mnist/28x28x1/7c53daf0e2e8"
    assert [len(dataset.rows(split)) for split in SPLITS] == [55_000, 5_000, 10_000]
    assert set(np.bincount(dataset.labels[dataset.rows("valid")])) == {500}
    assert dataset.rows("test")[0] == 60_000


def test_a_part_of_the_files(make, tmp_path):
    make.fashion(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        UserError, match=r"only a part of Fashion-MNIST: t10k-labels-idx1-ubyte \(or \.gz\) missing"
    ):
        load("fashion-mnist", data_dir=tmp_path)
    row = next(row for row in status(tmp_path) if row["name"] == "fashion-mnist")
    assert not row["present"] and "only a part" in row["problem"]


def test_mnist_is_not_fashion(make, tmp_path):
    make.fashion(tmp_path, gzipped=False)
    labels = np.tile(np.array([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5], np.uint8), 10)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(make.idx(labels))
    with pytest.raises(UserError, match="holds MNIST"):
        load("fashion-mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        (
            "train-images-idx3-ubyte",
            np.zeros((120, 32, 32), np.uint8),
            "of shape .120, 32, 32., not .N, 28, 28.",
        ),
        ("train-images-idx3-ubyte", np.zeros((119, 28, 28), np.uint8), "holds 119 images, but .* 120 labels"),
        ("train-labels-idx1-ubyte", np.full(120, 10, np.uint8), "holds the label 10, not 0 … 9"),
        ("train-labels-idx1-ubyte", np.zeros((120, 1), np.uint8), "2 dimensions, not unsigned bytes in 1"),
    ],
)
def test_files_that_do_not_belong_together(name, array, sentence, make, tmp_path):
    make.fashion(tmp_path, gzipped=False)
    (tmp_path / name).write_bytes(make.idx(array))
    with pytest.raises(UserError, match=sentence):
        load("fashion-mnist", data_dir=tmp_path)


ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_idx_round_trip(make, tmp_path):
    (tmp_path / "a").write_bytes(make.idx(ARRAY))
    (tmp_path / "b").write_bytes(gzip.compress(make.idx(ARRAY)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", 3), ARRAY)
    np.testing.assert_array_equal(read_idx(tmp_path / "b", 3), ARRAY)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: b"", "is not an IDX file: it starts with nothing"),
        (lambda data: b"\x89PNG" + data, "is not an IDX file: it starts with 89504e47"),
        (lambda data: data[:10], "is truncated inside its header"),
        (lambda data: data[:-1], "is truncated: its header announces 24 bytes, it holds 23"),
        (lambda data: data + b"x", "is too long: its header announces 24 bytes, it holds more"),
        (lambda data: data[:2] + b"\x0d" + data[3:], "is IDX of type 0x0d and 3 dimensions"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "is truncated"),
        (lambda data: gzip.compress(data)[:-12], "is truncated: its gzip stream breaks off"),
        (lambda data: gzip.compress(data)[:-8] + b"\0" * 8, "is damaged: CRC check failed"),
        (lambda data: b"\x1f\x8bgarbage-garbage", "is damaged"),
    ],
)
def test_damaged_idx(damage, sentence, make, tmp_path):
    path = tmp_path / "images.idx"
    path.write_bytes(damage(make.idx(ARRAY)))
    with pytest.raises(UserError, match=sentence) as caught:
        read_idx(path, 3)
    assert str(path) in caught.value.message


def test_missing_idx(tmp_path):
    with pytest.raises(UserError, match=r"images\.idx does not exist"):
        read_idx(tmp_path / "images.idx", 3)
