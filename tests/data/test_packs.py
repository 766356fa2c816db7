"""Image packs: what is written is read, what is prepared is what would have been decoded, and kills lose nothing."""

import dataclasses
import os
import signal

import h5py
import numpy as np
import pytest

from dmzcli.data import Dataset, load, prepare
from dmzcli.data import decoding as pictures
from dmzcli.errors import UserError
from dmzcli.system.interrupts import Interrupted


@pytest.fixture
def parts(monkeypatch):
    """Parts of four pictures."""
    import sys

    monkeypatch.setattr(sys.modules["dmzcli.data.prepare"], "PART", 4)


class Killed(BaseException):
    """Stands for kill -9."""


def same(one: Dataset, other: Dataset) -> None:
    for field in dataclasses.fields(Dataset):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def mixed(make, folder):
    """Two classes, grey and colour, PNG and JPEG; a dozen of each."""
    files = {f"cat/{i:02}.png": make.picture(20 * i, (8, 8), "L") for i in range(12)}
    files |= {f"dog/{i:02}.jpg": make.picture((20 * i, 0, 0), (8, 8), kind="JPEG") for i in range(12)}
    return make.tree(folder, files)


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_a_prepared_pack_is_the_dataset(form, parts, make, tmp_path):
    path = mixed(make, tmp_path / "pets")
    if form != "folder":
        files = {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*.*"), reverse=True)}
        path = {"zip": make.zip, "tar": make.tar}[form](tmp_path / f"pets.{form}", files)
    done = prepare(str(path), tmp_path / "pack.h5")
    assert (done.pictures, done.resumed) == (24, 0)
    same(done.dataset, load(str(path)))
    same(load(str(tmp_path / "pack.h5")), load(str(path)))
    assert not list(tmp_path.glob(".*"))  # neither parts nor a lock are left


@pytest.mark.parametrize("name", ["digits", "celeba", "edges2shoes"])
def test_packs_of_registered_datasets(name, parts, make, tmp_path):
    where = {"celeba": make.celeba, "edges2shoes": make.pairs, "digits": lambda folder: None}[name](
        tmp_path / "in"
    )
    options = {"celeba": {"size": 32, "fit": "adm"}, "edges2shoes": {"side": "A", "channels": 3}}.get(
        name, {}
    )
    done = prepare(name, tmp_path / "x.h5", data_dir=where, **options)
    same(done.dataset, load(name, data_dir=where, **options))
    again = load("x.h5", data_dir=tmp_path)
    same(again, done.dataset)
    assert again.name == name and isinstance(again.images, np.memmap)


def test_layout_with_h5py_and_numpy_alone(make, tmp_path):
    make.celeba(tmp_path)
    prepare("celeba", tmp_path / "x.h5", data_dir=tmp_path, size=64, fit="d2c")
    with h5py.File(tmp_path / "x.h5") as pack:
        assert pack.attrs["format"] == "dmz-images" and pack.attrs["version"] == 1
        assert pack.attrs["identity"].startswith("celeba/64x64x3-d2c/") and pack.attrs["crop"] == "d2c"
        assert set(pack) == {"images", "attributes", "split", "names"}
        assert pack["images"].shape == (10, 64, 64, 3) and pack["images"].dtype == np.uint8
        assert pack["images"].chunks is None and pack["images"][3, 32, 32, 0] == pytest.approx(60, abs=2)
        assert pack["names"][0] == b"000001.jpg" and list(pack["attributes"].attrs["names"])[3] == "Young"
        assert bool(pack.attrs["lossy"])


def test_a_pack_is_taken_at_other_sizes_and_channels(make, tmp_path):
    make.celeba(tmp_path)
    prepare("celeba", tmp_path / "x.h5", data_dir=tmp_path, size=64, fit="d2c")
    path = str(tmp_path / "x.h5")
    assert load(path, size=64, fit="d2c").identity == load(path).identity
    assert load(path, size=32, fit="resize").identity.split("/")[1] == "32x32x3-d2c-resize"
    grey = load(path, channels=1)
    assert grey.identity == load("celeba", data_dir=tmp_path, size=64, fit="d2c", channels=1).identity
    with pytest.raises(UserError, match=r"x\.h5 was made with the crop 'd2c', not 'adm'"):
        load(path, size=64, fit="adm")
    with pytest.raises(UserError, match=r"is 64 × 64 pixels .*, not 32 × 32"):
        load(path, size=32)
    with pytest.raises(UserError, match=r"x\.h5 holds side none of pairs, not A"):
        load(path, side="A")


# Stopping and going on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [1, 5, 8, 23])
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_killed_after_any_picture_goes_on(form, killed, parts, make, tmp_path):
    path = mixed(make, tmp_path / "pets")
    if form == "tar":
        path = make.tar(
            tmp_path / "pets.tar", {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*.*")}
        )
    whole, inner, done = load(str(path)), pictures._decode, []

    def decode(*arguments):
        if len(done) == killed:
            raise Killed
        done.append(arguments[0].name)
        return inner(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "workers", lambda: 1)
        patch.setattr(pictures, "_decode", decode)
        with pytest.raises(Killed):
            prepare(str(path), tmp_path / "pack.h5")
    assert not (tmp_path / "pack.h5").exists()  # never half
    prepared = prepare(str(path), tmp_path / "pack.h5")
    assert prepared.resumed == killed // 4 * 4 and prepared.pictures == 24
    same(prepared.dataset, whole)


def test_a_signal_keeps_the_finished_parts(parts, make, tmp_path):
    path = mixed(make, tmp_path / "pets")

    def report(done, total):
        if done == 8:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="run the same command to go on"):
        prepare(str(path), tmp_path / "pack.h5", progress=report)
    assert prepare(str(path), tmp_path / "pack.h5").resumed == 8


def test_parts_of_other_files_or_settings_are_not_used(parts, make, tmp_path):
    path = mixed(make, tmp_path / "pets")
    (path / "dog" / "11.jpg").write_bytes(b"broken")
    for change in ({}, {"size": 4, "fit": "resize"}):
        with pytest.raises(UserError, match=r"dog/11\.jpg is damaged"):
            prepare(str(path), tmp_path / "pack.h5", **change)
    assert list((tmp_path / ".pack.h5.parts").glob("*.npy"))
    (path / "dog" / "11.jpg").write_bytes(make.picture((1, 2, 3), (8, 8), kind="JPEG"))
    done = prepare(str(path), tmp_path / "pack.h5")
    assert done.resumed == 0
    same(done.dataset, load(str(path)))


# Bad pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_skipping_bad_pictures_leaves_the_dataset_without_them(form, parts, make, tmp_path):
    path = mixed(make, tmp_path / "in" / "pets")
    bad = {
        "cat/00.png": b"",
        "cat/05.png": b"broken",
        "dog/11.jpg": (path / "dog" / "11.jpg").read_bytes()[:200],
    }
    make.tree(path, bad)
    files = {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*.*")}
    if form == "tar":
        path = make.tar(tmp_path / "pets.tar", files)
    clean = load(str(make.tree(tmp_path / "out" / "pets", {k: v for k, v in files.items() if k not in bad})))
    with pytest.raises(UserError) as caught:
        load(str(path))
    assert "--skip-bad leaves bad pictures out" in caught.value.hint
    for dataset in (
        load(str(path), skip_bad=True),
        prepare(str(path), tmp_path / "x.h5", skip_bad=True).dataset,
    ):
        assert len(dataset) == 21 and dataset.identity == clean.identity and dataset.names == clean.names
        (note,) = dataset.notes
        assert note.startswith("3 bad pictures left out, the first: ") and str(path) in note


def test_nothing_but_bad_pictures(make, tmp_path):
    make.tree(tmp_path / "pets", {"a.png": b"", "b.png": b"broken"})
    with pytest.raises(UserError, match=r"pets: all 2 pictures are bad, the first: .*a\.png is empty"):
        load(str(tmp_path / "pets"), skip_bad=True)


def test_a_picture_that_does_not_fit_is_not_bad(make, tmp_path):
    make.tree(tmp_path / "pets", {"a.png": make.picture(1, (8, 8)), "b.png": make.picture(1, (9, 8))})
    with pytest.raises(UserError, match="is 9 × 8 pixels"):
        load(str(tmp_path / "pets"), skip_bad=True)


# The cache ------------------------------------------------------------------------------------------------------


def test_the_cache_is_used_until_a_file_changes(make, tmp_path):
    path = mixed(make, tmp_path / "pets")
    said = []
    first = load(str(path), cache=True, say=said.append)
    same(first, load(str(path)))
    same(load(str(path), cache=True, say=said.append), first)
    (path / "cat" / "03.png").write_bytes(make.picture(255, (8, 8), "L"))
    changed = load(str(path), cache=True, say=said.append)
    assert changed.identity == load(str(path)).identity != first.identity
    (path / "cat" / "03.png").unlink()
    assert len(load(str(path), cache=True, say=said.append)) == 23
    assert [message.split(": ")[1].split(" the ")[0].split(" its ")[0] for message in said] == [
        "preparing", "taking", "preparing", "preparing",
    ]  # fmt: skip
    assert all(os.environ["DMZ_CACHE"] in message for message in said)
    load(str(path), cache=True, size=4, fit="resize")
    assert len(os.listdir(os.path.join(os.environ["DMZ_CACHE"], "packs"))) == 2  # one for each way to read it


def test_a_damaged_cache_is_prepared_anew(make, tmp_path):
    path = mixed(make, tmp_path / "pets")
    load(str(path), cache=True)
    folder = os.path.join(os.environ["DMZ_CACHE"], "packs")
    (file,) = (os.path.join(folder, name) for name in os.listdir(folder))
    with open(file, "r+b") as stream:
        stream.truncate(100)
    same(load(str(path), cache=True), load(str(path)))


def test_a_cache_that_cannot_be_written(make, tmp_path, monkeypatch):
    path = mixed(make, tmp_path / "pets")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DMZ_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="file/packs") as caught:
        load(str(path), cache=True)
    assert "set DMZ_CACHE to a folder" in caught.value.hint


# What is no pack -------------------------------------------------------------------------------------------------


@pytest.fixture
def pack(tmp_path):
    return prepare("digits", tmp_path / "digits.h5") and tmp_path / "digits.h5"


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated(pack, share):
    whole = pack.read_bytes()
    pack.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"digits\.h5 is no whole image pack"):
        load(str(pack))


def test_other_hdf5_files_and_versions(pack, tmp_path):
    with h5py.File(pack, "r+") as stream:
        stream.attrs["version"] = 2
    with pytest.raises(UserError, match="is an image pack of version 2, not 1"):
        load(str(pack))
    with h5py.File(pack, "r+") as stream:
        stream.attrs["format"] = "dmz-bits"
    with pytest.raises(UserError, match="is an HDF5 file, but not an image pack"):
        load(str(pack))


@pytest.mark.parametrize("name", ["identity", "crop", "name"])
def test_missing_attributes_are_named(pack, name):
    with h5py.File(pack, "r+") as stream:
        del stream.attrs[name]
    with pytest.raises(UserError, match=rf"digits\.h5 lacks .*{name}.* of an image pack"):
        load(str(pack))


def test_inconsistent_columns(pack):
    with h5py.File(pack, "r+") as stream:
        del stream["split"]
        stream["split"] = np.zeros(5, np.uint8)
    with pytest.raises(
        UserError, match=r"is no whole image pack: split is uint8 \(5,\), not uint8 \(1797,\)"
    ):
        load(str(pack))


def test_a_pack_onto_itself(pack):
    with pytest.raises(UserError, match=r"digits\.h5 is the dataset itself"):
        prepare(str(pack), pack)


def test_another_file_is_not_overwritten(tmp_path):
    (tmp_path / "bits.h5").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"bits\.h5 is there already, and no image pack"):
        prepare("digits", tmp_path / "bits.h5")
    assert (tmp_path / "bits.h5").read_bytes() == b"precious"


def test_changes_behind_links_are_seen(make, tmp_path):
    path = mixed(make, tmp_path / "elsewhere")
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "cat").symlink_to(path / "cat")
    (tmp_path / "pets" / "dog").symlink_to(path / "dog")
    (path / "cat" / "back").symlink_to(tmp_path / "pets")
    before = load(str(tmp_path / "pets"), cache=True)
    (path / "cat" / "00.png").write_bytes(make.picture(255, (8, 8), "L"))
    assert load(str(tmp_path / "pets"), cache=True).identity != before.identity


def test_images_in_pieces_are_read_too(pack, tmp_path):
    """Another program may have stored them chunked and compressed."""
    before = load(str(pack))
    with h5py.File(pack) as stream, h5py.File(tmp_path / "chunked.h5", "w") as out:
        out.attrs.update(stream.attrs)
        for name in stream:
            out.create_dataset(name, data=stream[name][()], compression="gzip")
            out[name].attrs.update(stream[name].attrs)
    same(load(str(tmp_path / "chunked.h5")), before)
