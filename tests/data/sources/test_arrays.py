"""Arrays of images in NumPy's files."""

import numpy as np
import pytest

from dmzcli.data import SPLITS, load
from dmzcli.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(20) % 3


def sizes(dataset):
    return [len(dataset.rows(split)) for split in SPLITS]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(IMAGES, IMAGES), (IMAGES.transpose(0, 3, 1, 2), IMAGES), (IMAGES[..., 0], IMAGES[..., :1])],
)
def test_npy(stored, expected, tmp_path):
    np.save(tmp_path / "a.npy", stored)
    dataset = load(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(dataset.images, expected)
    assert dataset.name == "a" and dataset.labels is None and sizes(dataset) == [16, 2, 2]


@pytest.mark.parametrize("keys", [("images", "labels"), ("arr_0", "arr_1"), ("x", "y")])
def test_npz_of_a_whole(keys, tmp_path):
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (IMAGES, LABELS), strict=True)))
    dataset = load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(dataset.images, IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.label_names == ("0", "1", "2") and sizes(dataset) == [16, 2, 2]


def test_npz_with_its_own_split(tmp_path):
    split = np.repeat([0, 1, 2], [10, 4, 6])
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS, split=split)
    np.testing.assert_array_equal(load(str(tmp_path / "a.npz")).split, split)


@pytest.mark.parametrize("form", ["{}_images {}_labels", "x_{} y_{}"])
def test_npz_by_splits(form, tmp_path):
    images, labels = form.split()
    parts = {"test": slice(14, 20), "train": slice(0, 10), "val": slice(10, 14)}
    stored = {images.format(name): IMAGES[part] for name, part in parts.items()}
    stored |= {labels.format(name): LABELS[part, None] for name, part in parts.items()}
    np.savez(tmp_path / "a.npz", **stored)
    dataset = load(str(tmp_path / "a.npz"))
    assert sizes(dataset) == [10, 4, 6]
    np.testing.assert_array_equal(dataset.images, IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": IMAGES / 255.0}, r"images is float64 of shape \(20, 4, 4, 3\)"),
        ({"images": IMAGES[..., :2]}, r"images is uint8 of shape \(20, 4, 4, 2\)"),
        ({"pictures": IMAGES}, "holds no images: its arrays are pictures"),
        ({"images": IMAGES, "labels": LABELS[:5]}, r"labels int64 of shape \(5,\) for 20 images"),
        ({"images": IMAGES, "labels": LABELS / 2}, "holds labels float64"),
        ({"images": IMAGES, "split": LABELS + 1}, "split is int64"),
        ({"test_images": IMAGES}, "has no training images"),
        ({"train_images": IMAGES, "x_train": IMAGES}, "two arrays for one split"),
        ({"train_images": IMAGES, "test_images": IMAGES[:, :2]}, "images of several sizes"),
        (
            {"train_images": IMAGES, "test_images": IMAGES, "train_labels": LABELS},
            "labels for some of its splits",
        ),
        ({"images": np.array([None])}, "is truncated, or no file of NumPy arrays"),
    ],
)
def test_foreign_arrays(arrays, sentence, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=sentence):
        load(str(tmp_path / "a.npz"))


def test_truncated(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES)
    whole = (tmp_path / "a.npz").read_bytes()
    for length in (0, 10, len(whole) // 2):
        (tmp_path / "a.npz").write_bytes(whole[:length])
        with pytest.raises(UserError, match="is truncated, or no file of NumPy arrays"):
            load(str(tmp_path / "a.npz"))
