"""CIFAR-10 in all its official forms, and batches that are not what they claim."""

import os
import pickle
import tarfile

import numpy as np
import pytest

from dmzcli.data import SPLITS, load
from dmzcli.data.formats.cifar_pickle import read_batch
from dmzcli.errors import UserError


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def check(dataset, make):
    batches = make.cifar_batches()
    pixels = np.concatenate([pixels for pixels, _ in batches.values()])
    assert dataset.images.shape == (120, 32, 32, 3) and not dataset.lossy
    assert [len(dataset.rows(split)) for split in SPLITS] == [90, 10, 20]
    np.testing.assert_array_equal(dataset.images[7, 3, 4], pixels[7].reshape(3, 32, 32)[:, 3, 4])
    np.testing.assert_array_equal(dataset.images[-1, 31, 30], pixels[-1].reshape(3, 32, 32)[:, 31, 30])
    np.testing.assert_array_equal(dataset.labels, np.arange(120) % 10)
    np.testing.assert_array_equal(np.sort(dataset.labels[dataset.rows("valid")]), np.arange(10))
    assert dataset.label_names[6] == "frog"


@pytest.mark.parametrize("form", ["python", "python3", "binary"])
@pytest.mark.parametrize("place", ["", "cifar10"])
def test_folders(form, place, make, tmp_path):
    inner = make.cifar(tmp_path / place, form)
    check(load("cifar10", data_dir=tmp_path), make)
    check(load("cifar10", data_dir=inner), make)


@pytest.mark.parametrize(
    ("form", "name"), [("python", "cifar-10-python.tar.gz"), ("binary", "cifar-10-binary.tar.gz")]
)
def test_archives(form, name, make, tmp_path):
    archive = pack(make.cifar(tmp_path / "source", form), tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    check(load("cifar10", data_dir=tmp_path), make)
    check(load("cifar10", data_dir=archive), make)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was extracted


def test_all_forms_are_one_dataset(make, tmp_path):
    identities = set()
    for form in ("python", "python3", "binary"):
        make.cifar(tmp_path / form, form)
        identities.add(load("cifar10", data_dir=tmp_path / form).identity)
    assert len(identities) == 1


def test_the_archive_as_a_path_hints_at_the_name(make, tmp_path):
    archive = pack(make.cifar(tmp_path / "source"), tmp_path / "cifar-10-python.tar.gz")
    with pytest.raises(UserError, match="holds no pictures") as caught:
        load(str(archive))
    assert f"cifar10 --data-dir {archive}" in caught.value.hint


def test_a_part_of_the_batches(make, tmp_path):
    inner = make.cifar(tmp_path)
    (inner / "data_batch_3").unlink()
    with pytest.raises(UserError, match="only a part of CIFAR-10: data_batch_3 missing"):
        load("cifar10", data_dir=tmp_path)
    pack(inner, tmp_path / "cifar-10-python.tar.gz")
    for path in inner.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="only a part of CIFAR-10: data_batch_3 missing"):
        load("cifar10", data_dir=tmp_path)


def test_truncated_files(make, tmp_path):
    inner = make.cifar(tmp_path / "bin", "binary")
    whole = (inner / "data_batch_2.bin").read_bytes()
    (inner / "data_batch_2.bin").write_bytes(whole[:-5])
    with pytest.raises(UserError, match=r"data_batch_2\.bin is truncated or foreign"):
        load("cifar10", data_dir=inner)
    (inner / "data_batch_2.bin").write_bytes(whole[:-3073])
    with pytest.raises(UserError, match=r"data_batch_2\.bin holds 19 images, but .*data_batch_1\.bin 20"):
        load("cifar10", data_dir=inner)
    (inner / "data_batch_2.bin").write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(UserError, match=r"data_batch_2\.bin holds labels outside of 0 … 9"):
        load("cifar10", data_dir=inner)
    archive = pack(make.cifar(tmp_path / "py"), tmp_path / "cifar-10-python.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz is truncated or damaged"):
        load("cifar10", data_dir=archive)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'c__builtin__\neval\n(S\'open("gotcha", "w")\'\ntR.', "__builtin__.eval"),
        (b"cposix\nsystem\n(S'touch gotcha'\ntR.", "posix.system"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"cnumpy\nmemmap\n(S'gotcha'\ntR.", "numpy.memmap"),
        (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "numpy.ndarray.dumps"),
        (pickle.dumps({b"data": np.random.RandomState(0)}, protocol=2), "numpy.random"),
    ],
)
def test_malicious_pickles_are_refused_before_they_run(data, name):
    with pytest.raises(UserError, match=f"data_batch_1 asks to run '{name}.*', which no CIFAR batch does"):
        read_batch(data, "data_batch_1")
    assert not os.path.exists("gotcha")


def test_a_batch_may_not_smuggle_text_through_a_codec():
    with pytest.raises(UserError, match="text in an unexpected encoding"):
        read_batch(b"c_codecs\nencode\n(Vx\nVzip\ntR.", "data_batch_1")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "data_batch_1 is truncated, or no CIFAR batch: EOFError"),
        (b"\x89PNG...", "refers to objects outside of it, which no CIFAR batch does"),
        (pickle.dumps([1, 2], protocol=2), "is truncated, or no CIFAR batch"),
        (pickle.dumps({b"data": [1]}, protocol=2), "is truncated, or no CIFAR batch"),
        (pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [0, 1]}, 2), r"holds data \(2, 5\)"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, 2), r"labels \(1,\)"),
        (pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [0]}, 2), "an array of type 'f8'"),
        (pickle.dumps({b"data": np.array([None]), b"labels": [0]}, 2), "an array of type 'O8'"),
        (b"\x80\x02U\x01aQ.", "refers to objects outside of it"),
    ],
)
def test_foreign_batches(data, sentence):
    with pytest.raises(UserError, match=sentence):
        read_batch(data, "data_batch_1")


def test_truncated_batch(make):
    pixels, labels = make.cifar_batches()["test_batch"]
    whole = make.python3_pickle(pixels, labels)
    for length in (1, 50, len(whole) // 2, len(whole) - 1):
        with pytest.raises(UserError, match="is truncated, or no CIFAR batch"):
            read_batch(whole[:length], "test_batch")
    lie = whole.replace(b"J\x00\x0c\x00\x00", b"J\x01\x0c\x00\x00").replace(b"M\x00\x0c", b"M\x01\x0c")
    assert lie != whole
    with pytest.raises(UserError, match="do not match its shape"):
        read_batch(lie, "test_batch")
