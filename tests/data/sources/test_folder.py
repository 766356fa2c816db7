"""Folders and archives of pictures: layouts, hold-outs, and all that is refused."""

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dmzcli.data import SPLITS, load
from dmzcli.errors import UserError

FROZEN = [22, 38, 41, 48, 52, 58, 62, 72, 82, 95]
TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def sizes(dataset):
    return [len(dataset.rows(split)) for split in SPLITS]


def with_splits(make):
    return {
        **make.classes(6, "train/"),
        "val/cat/a.png": make.picture((1, 0, 0)),
        "val/dog/a.png": make.picture((0, 1, 0)),
        "test/dog/b.png": make.picture((0, 2, 0)),
    }


def test_class_folders(make, tmp_path):
    dataset = load(str(make.tree(tmp_path / "pets", make.classes(10))))
    assert dataset.name == "pets" and dataset.identity.startswith("pets/8x8x3/")
    assert dataset.label_names == ("cat", "dog") and not dataset.lossy
    np.testing.assert_array_equal(dataset.labels, [0] * 10 + [1] * 10)
    np.testing.assert_array_equal(dataset.images[:10, 0, 0, 0], np.arange(5, 105, 10))
    np.testing.assert_array_equal(dataset.images[10:, 0, 0, 1], np.arange(5, 105, 10))
    assert sizes(dataset) == [16, 2, 2]
    assert set(dataset.labels[dataset.rows("valid")]) == set(dataset.labels[dataset.rows("test")]) == {0, 1}


def test_split_folders(make, tmp_path):
    dataset = load(str(make.tree(tmp_path, with_splits(make))))
    assert sizes(dataset) == [12, 2, 1]
    np.testing.assert_array_equal(dataset.labels[dataset.rows("test")], [1])
    np.testing.assert_array_equal(dataset.images[dataset.rows("test"), 0, 0], [[0, 2, 0]])


def test_a_missing_split_is_held_out_of_train(make, tmp_path):
    files = with_splits(make)
    no_valid = {name: data for name, data in files.items() if not name.startswith("val")}
    no_test = {name: data for name, data in files.items() if not name.startswith("test")}
    assert sizes(load(str(make.tree(tmp_path / "a", no_valid)))) == [10, 2, 1]
    assert sizes(load(str(make.tree(tmp_path / "b", no_test)))) == [10, 2, 2]
    assert sizes(load(str(make.tree(tmp_path / "c", make.classes(6, "train/"))))) == [8, 2, 2]


def test_hold_outs_depend_on_the_names_alone(make, tmp_path):
    files = {f"{i:03}.png": make.picture(i, mode="L") for i in range(100)}
    others = {name: make.picture(255, mode="L") for name in files}
    one, other = load(str(make.tree(tmp_path / "a", files))), load(str(make.tree(tmp_path / "b", others)))
    assert sizes(one) == [80, 10, 10] and one.labels is None and one.images.shape[3] == 1
    np.testing.assert_array_equal(one.split, other.split)
    assert one.rows("valid").tolist() == FROZEN


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_pictures(count, make, tmp_path):
    files = {f"{i}.png": make.picture(i, mode="L") for i in range(count)}
    assert sizes(load(str(make.tree(tmp_path, files)))) == ([count, 0, 0] if count < 3 else [1, 1, 1])


def test_a_folder_and_its_archives_are_one_dataset(make, tmp_path):
    files = with_splits(make)
    shuffled = {name: files[name] for name in sorted(files, key=lambda name: name[::-1])}
    folder = load(str(make.tree(tmp_path / "pets", files)))
    (tmp_path / "zip").mkdir()
    archives = [make.zip(tmp_path / "zip" / "pets.zip", shuffled)]
    for suffix, mode in TARS.items():
        (tmp_path / suffix[1:]).mkdir()
        archives.append(make.tar(tmp_path / suffix[1:] / f"pets{suffix}", shuffled, mode))
    before = sorted(tmp_path.rglob("*"))
    for archive in archives:
        dataset = load(str(archive))
        assert dataset.identity == folder.identity, archive
        np.testing.assert_array_equal(dataset.images, folder.images)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was extracted


@pytest.mark.parametrize("wrapper", ["mypics/", "a/b/", "./", "./mypics/"])
def test_wrappers_are_looked_through(wrapper, make, tmp_path):
    plain = load(str(make.zip(tmp_path / "pets.zip", with_splits(make))))
    (tmp_path / "w").mkdir()
    files = {wrapper + name: data for name, data in with_splits(make).items()}
    assert load(str(make.tar(tmp_path / "w" / "pets.tar", files))).identity == plain.identity


def test_junk_and_other_files_do_not_count(make, tmp_path):
    plain = load(str(make.tree(tmp_path / "a" / "pets", make.classes(4))))
    junk = [
        "__MACOSX/pets/._a.png",
        ".DS_Store",
        "pets/.hidden/x.png",
        "pets/cat/Thumbs.db",
        "pets/cat/._00.png",
    ]
    files = {f"pets/{name}": data for name, data in make.classes(4).items()}
    files |= {name: b"junk" for name in junk} | {"pets/cat/notes.txt": b"a list"}
    (tmp_path / "b").mkdir()
    assert load(str(make.zip(tmp_path / "b" / "pets.zip", files))).identity == plain.identity
    assert load(str(make.tree(tmp_path / "c" / "pets", files))).identity == plain.identity


def test_names_below_the_data_folder(make, tmp_path):
    make.tree(tmp_path / "pets", make.classes(3))
    make.tar(tmp_path / "shoes.tar.xz", make.classes(3), "w:xz")
    assert load("pets", data_dir=tmp_path).name == "pets"
    assert load("shoes", data_dir=tmp_path).name == "shoes"
    assert load("shoes.tar.xz", data_dir=tmp_path).name == "shoes"
    os.symlink(tmp_path, "data")
    assert load("shoes").name == "shoes"  # ./data is searched without being named


def test_linked_folders_are_followed_and_loops_end(make, tmp_path):
    make.tree(tmp_path / "elsewhere", {f"{i}.png": make.picture(i, mode="L") for i in range(4)})
    make.tree(tmp_path / "pets", {"cat/0.png": make.picture(9, mode="L")})
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets" / "cat" / "loop").symlink_to(tmp_path / "pets")
    assert load(str(tmp_path / "pets")).label_names == ("cat", "dog")


def test_channels_follow_the_pictures(make, tmp_path):
    make.tree(tmp_path, {"a.png": make.picture(3, mode="L"), "b.png": make.picture((4, 4, 4))})
    mixed = load(str(tmp_path))
    assert mixed.images.shape == (2, 8, 8, 3) and (mixed.images[0] == 3).all()
    assert load(str(tmp_path), channels=1).images.shape == (2, 8, 8, 1)


def test_jpegs_are_lossy(make, tmp_path):
    make.tree(tmp_path, {"a.png": make.picture(3), "b.jpg": make.picture(3, kind="JPEG")})
    assert load(str(tmp_path)).lossy


def test_sizes(make, tmp_path):
    make.tree(tmp_path, {"a.png": make.picture(1), "b.png": make.picture(1, (12, 6))})
    with pytest.raises(UserError, match=r"b\.png is 12 × 6 pixels .*, not 8 × 8 like .*a\.png") as caught:
        load(str(tmp_path))
    assert "--set data.size=8 --set data.fit=resize|pad|crop" in caught.value.hint
    with pytest.raises(UserError, match=r"b\.png is 12 × 6 pixels .*, and resizing would distort it"):
        load(str(tmp_path), size=8, fit="resize")
    assert load(str(tmp_path), size=12, fit="pad").images.shape[1:3] == (12, 12)
    dataset = load(str(tmp_path), size=4, fit="crop")
    assert "/4x4x3-crop/" in dataset.identity


def test_progress(make, tmp_path):
    make.tree(tmp_path / "many", {f"{i}.png": make.picture(1, (2, 2)) for i in range(130)})
    seen = []
    load(str(tmp_path / "many"), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 130), (128, 130), (130, 130)]
    make.tar(tmp_path / "many.tar", {f"{i}.png": make.picture(1, (2, 2)) for i in range(70)})
    seen.clear()
    load(str(tmp_path / "many.tar"), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 0), (70, 70)]  # a tar's length is known at its end only


LAYOUTS = [
    (
        {"train/cat/a.png": 1, "valid/cat/a.png": 1, "val/cat/a.png": 1},
        "holds both val/ and valid/",
    ),
    ({"test/a.png": 1, "other.png": 1}, r"holds other\.png beside test/"),
    ({"train/a.png": 1, "extra/b.png": 1}, r"holds extra/b\.png beside train/"),
    ({"test/a.png": 1, "valid/b.png": 1}, "holds valid/, but no train/"),
    ({"cat/a.png": 1, "b.png": 1}, r"some pictures lie in class folders, but b\.png does not"),
    ({"train/cat/a.png": 1, "test/b.png": 1}, r"some pictures lie in class folders, but b\.png does not"),
    ({"cat/a.png": 1, "Cat/b.png": 1, "dog/c.png": 1}, "class folders 'Cat' and 'cat' differ in case"),
    (
        {"train/cat/a.png": 1, "train/dog/a.png": 1, "test/owl/a.png": 1},
        "class 'owl' is in test/ but not in train/",
    ),
    ({"a.heic": 1, "b.png": 1}, r"a\.heic is a picture of a kind that is not read"),
    ({"notes.txt": 1}, "holds no pictures"),
]


@pytest.mark.parametrize(("files", "sentence"), LAYOUTS)
def test_layouts_without_one_meaning(files, sentence, make, tmp_path):
    files = {name: make.picture(0, mode="L") for name in files}
    make.tree(tmp_path / "folder", files)
    for path in (
        tmp_path / "folder",
        make.zip(tmp_path / "a.zip", files),
        make.tar(tmp_path / "a.tar", files),
    ):
        with pytest.raises(UserError, match=sentence):
            load(str(path))


def test_empty_folders(make, tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        load(str(tmp_path))
    make.tree(tmp_path, make.classes(2))
    (tmp_path / "owl").mkdir()
    with pytest.raises(UserError, match="the class folder owl holds no pictures"):
        load(str(tmp_path))
    make.tree(tmp_path / "s", make.classes(2, "train/"))
    (tmp_path / "s" / "valid").mkdir()
    with pytest.raises(UserError, match="the folder valid/ holds no pictures"):
        load(str(tmp_path / "s"))
    (tmp_path / "s" / "valid").rmdir()
    (tmp_path / "s" / "train" / "owl").mkdir()
    with pytest.raises(UserError, match="the class folder train/owl holds no pictures"):
        load(str(tmp_path / "s"))


def test_doubled_entries(make, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", make.picture(0))
        archive.writestr("./a.png", make.picture(1))
    with pytest.raises(UserError, match=r"holds a\.png twice"):
        load(str(tmp_path / "a.zip"))


def test_damaged_pictures_are_named(make, tmp_path):
    files = make.classes(3)
    files["dog/01.png"] = files["dog/01.png"][:50]
    make.tree(tmp_path / "folder", files)
    for path in (
        tmp_path / "folder",
        make.zip(tmp_path / "a.zip", files),
        make.tar(tmp_path / "a.tar", files),
    ):
        with pytest.raises(UserError, match=rf"{path}/dog/01\.png is truncated or damaged"):
            load(str(path))


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/tmp/evil.png"])
def test_entries_that_point_outside(name, make, tmp_path):
    inner = tmp_path / "x" / "y"
    inner.mkdir(parents=True)
    files = {"good.png": make.picture(0), name: make.picture(1)}
    for path in (make.zip(inner / "a.zip", files), make.tar(inner / "a.tar", files)):
        with pytest.raises(UserError, match=r"holds the entry '.*evil\.png', which points outside of it"):
            load(str(path))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar", "a.zip", "x", "y"]


def test_links_in_archives_are_refused(make, tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            info = tarfile.TarInfo("secret.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(UserError, match=r"secret\.png is a link to another file"):
            load(str(tmp_path / "a.tar"))


@pytest.mark.parametrize("suffix", [*TARS, ".zip"])
def test_truncated_archives(suffix, make, tmp_path):
    noise = np.random.RandomState(0).bytes(30_000)
    files = make.classes(5) | {"noise.txt": noise}
    path = tmp_path / f"a{suffix}"
    make.zip(path, files) if suffix == ".zip" else make.tar(path, files, TARS[suffix])
    whole = path.read_bytes()
    for length in (len(whole) - 11_000, len(whole) // 2, 700):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"is truncated|neither a zip nor a tar"):
            load(str(path))


def test_a_tar_cut_between_two_entries(make, tmp_path):
    """The cruellest cut: every entry that is left is whole."""
    path = make.tar(tmp_path / "a.tar", {f"{i}.png": make.picture(i, mode="L") for i in range(6)})
    assert all(len(make.picture(i, mode="L")) <= 512 for i in range(6))
    path.write_bytes(path.read_bytes()[: 4 * 1024])
    with pytest.raises(UserError, match="is truncated: the end marker of a tar archive is missing"):
        load(str(path))


def test_joined_tars(make, tmp_path):
    one = make.tar(tmp_path / "a.tar", {"a.png": make.picture(0)}).read_bytes()
    other = make.tar(tmp_path / "b.tar", {"b.png": make.picture(0)}).read_bytes()
    (tmp_path / "c.tar").write_bytes(one + other)
    with pytest.raises(UserError, match="goes on behind the end of its tar archive"):
        load(str(tmp_path / "c.tar"))


def test_damaged_and_encrypted_zips(make, tmp_path):
    path = make.zip(tmp_path / "a.zip", {"a.png": make.picture(0, (64, 64))})
    whole = bytearray(path.read_bytes())
    whole[60] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"a\.zip is truncated or damaged"):
        load(str(path))
    whole[60] ^= 0xFF
    whole[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption, in the directory
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"a\.zip is encrypted"):
        load(str(path))


@pytest.mark.parametrize("data", [b"", b"hello", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"x" * 5000])
def test_files_that_are_no_archives(data, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"is neither a zip nor a tar archive|is truncated or damaged"):
        load(str(path))


def test_a_single_picture_is_no_archive(make, tmp_path):
    (tmp_path / "a.png").write_bytes(make.picture(0))
    with pytest.raises(UserError, match=r"a\.png is neither a zip nor a tar archive"):
        load(str(tmp_path / "a.png"))


def test_empty_archives(make, tmp_path):
    for path in (make.zip(tmp_path / "a.zip", {}), make.tar(tmp_path / "a.tar", {})):
        with pytest.raises(UserError, match="holds no pictures"):
            load(str(path))


def test_names_that_are_not_utf8(make, tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(make.picture(0))
    with pytest.raises(UserError, match=r"a path that is not UTF-8: '\\udcff\.png'"):
        load(str(tmp_path))


@pytest.mark.slow
def test_the_jpeg_copies_of_cifar10():
    path = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "cifar10-jpeg.tar.xz"
    if not path.exists():
        pytest.skip("the archive is not on this machine")
    dataset = load(str(path))
    assert dataset.images.shape == (60_000, 32, 32, 3) and dataset.lossy
    assert sizes(dataset) == [45_000, 5_000, 10_000] and dataset.label_names[0] == "airplane"
    for split, count in zip(SPLITS, (4_500, 500, 1_000), strict=True):
        assert set(np.bincount(dataset.labels[dataset.rows(split)])) == {count}
