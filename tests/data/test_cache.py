"""The cache: all that lies in it is listed, and cleaning takes only what nobody needs."""

import os
import time

import numpy as np
import pytest

from dmzcli.data import load, prepare
from dmzcli.data.cache import entries, remove
from dmzcli.system.files import cache_root
from dmzcli.system.locks import hold
from dmzcli.system.parts import Parts


@pytest.fixture
def pack(make, tmp_path):
    """The cached pack of a folder of eight pictures."""
    make.tree(tmp_path / "few", {f"{i}.png": make.picture(i) for i in range(8)})
    load(str(tmp_path / "few"), cache=True)
    (file,) = (cache_root() / "packs").glob("*.h5")
    return file


def reasons():
    return {entry.path.name: entry.why for entry in entries()}


def test_a_pack_is_needed_while_it_is_asked_for(pack, tmp_path):
    assert reasons() == {pack.name: ""}
    month_ago = time.time() - 31 * 86_400
    os.utime(pack, (month_ago, month_ago))
    assert reasons() == {pack.name: "not asked for in 31 days"} and not entries(days=40)[0].why
    load(str(tmp_path / "few"), cache=True)
    assert reasons() == {pack.name: ""}


@pytest.mark.parametrize("change", ["gone", "changed", "added"])
def test_a_pack_of_other_files_is_not_needed(pack, make, tmp_path, change):
    folder = tmp_path / "few"
    if change == "gone":
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    else:
        (folder / f"{'0' if change == 'changed' else 'new'}.png").write_bytes(make.picture(99, (8, 8), "L"))
    assert reasons() == {pack.name: "the files that it was made of are gone or have changed"}


def test_the_pack_of_a_registered_dataset_knows_its_files(make, tmp_path):
    make.pairs(tmp_path)
    load("edges2shoes", data_dir=tmp_path, side="A", cache=True)
    assert list(reasons().values()) == [""]
    next((tmp_path / "edges2shoes").rglob("*.jpg")).unlink()
    assert list(reasons().values()) == ["the files that it was made of are gone or have changed"]


def test_what_killed_commands_left(pack):
    """Parts and temporary files are left over, unless a living process holds the lock of what they become."""
    other = pack.with_name("other-0123.h5")
    parts = Parts(other)
    parts.claim({"of": "tests"})
    parts.write(0, {"images": np.zeros((3, 8, 8, 1), np.uint8)})
    temporary = pack.with_name(f".{other.name}.abc_1.tmp")
    temporary.write_bytes(bytes(100))
    with hold(other):
        assert reasons() == {pack.name: "", parts.folder.name: "", temporary.name: ""}
    other.with_name(f".{other.name}.lock").touch()  # of a process that was killed
    left = "left over: no process works on it"
    assert reasons() == {pack.name: "", parts.folder.name: left, temporary.name: left}
    for entry in entries():
        if entry.why:
            remove(entry)
    assert [file.name for file in pack.parent.iterdir()] == [pack.name]


def test_the_command_removes_only_with_yes(dmz, pack, make, tmp_path):
    (cache_root() / "classifiers").mkdir()
    (cache_root() / "classifiers/mine.safetensors").write_bytes(bytes(2**20))
    month_ago = time.time() - 31 * 86_400
    os.utime(pack, (month_ago, month_ago))
    listed = dmz("cache", "--json").json
    assert (
        listed["bytes"] == sum(entry["bytes"] for entry in listed["entries"]) == 2**20 + pack.stat().st_size
    )
    assert [entry["kind"] for entry in listed["entries"]] == ["classifier", "image pack"]
    dry = dmz("cache", "clean")
    assert dry.code == 0 and pack.name in dry.out.replace("\n", "") and "nothing was removed" in dry.err
    assert pack.exists() and not dmz("cache", "clean", "--json").json["removed"]
    done = dmz("cache", "clean", "--yes", "--json").json
    assert done["removed"] and [entry["path"] for entry in done["entries"]] == [str(pack)]
    assert not pack.exists() and (cache_root() / "classifiers/mine.safetensors").exists()
    assert "nothing to list" in dmz("cache", "clean").out


def test_an_empty_cache(dmz, monkeypatch):
    monkeypatch.setenv("DMZ_CACHE", "never-made")
    listed = dmz("cache", "--json")
    assert listed.code == 0 and listed.json["entries"] == []


def test_a_pack_from_before_sources_were_noted_goes_by_its_days(pack):
    import h5py

    with h5py.File(pack, "r+") as stream:
        del stream.attrs["source"]
    assert reasons() == {pack.name: ""}
    pack.write_bytes(b"no pack")
    assert reasons() == {pack.name: "no whole image pack"}


def test_a_pack_of_ones_own_does_not_tell_where_its_pictures_lay(make, tmp_path):
    import h5py

    make.tree(tmp_path / "few", {f"{i}.png": make.picture(i) for i in range(4)})
    prepare(str(tmp_path / "few"), tmp_path / "pack.h5")
    with h5py.File(tmp_path / "pack.h5") as stream:
        assert "source" not in stream.attrs
