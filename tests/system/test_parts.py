"""Parts: whole or absent, of one piece of work only, and joined in their order."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from dmzcli.errors import UserError
from dmzcli.system.parts import Parts

KEY = {"of": "squares", "rows": 4}
OUT = Path("below/squares.h5")


def part(number):
    return {"values": np.arange(4)[:, None] ** 2 + number, "marks": np.full(4, number, np.float16)}


@pytest.fixture
def three():
    parts = Parts(OUT)
    parts.claim(KEY)
    for number in range(3):
        parts.write(number, part(number), {"name": f"ü{number}"})
    return parts


def test_what_is_written_is_read(three):
    again = Parts(OUT)
    again.claim(KEY)
    assert [number in again for number in range(4)] == [True, True, True, False]
    for number in range(3):
        assert again.facts(number) == {"name": f"ü{number}"}
        for name, values in part(number).items():
            stored = again.read(number, name)
            assert stored.dtype == values.dtype and isinstance(stored, np.memmap)
            np.testing.assert_array_equal(stored, values)


def test_joined_in_order(three):
    values = three.join("values", 3)
    np.testing.assert_array_equal(values, np.concatenate([part(number)["values"] for number in range(3)]))
    assert three.join("marks", 2).tolist() == [0.0] * 4 + [1.0] * 4


@pytest.mark.parametrize("layout", ["F", "strided", "C"])
def test_arrays_of_any_layout(layout):
    values = np.arange(24).reshape(4, 6)
    values = {"F": np.asfortranarray(values), "strided": values[::2, ::3]}.get(layout, values)
    parts = Parts(OUT)
    parts.claim(KEY)
    parts.write(0, {"values": values})
    np.testing.assert_array_equal(parts.read(0, "values"), values)
    assert parts.facts(0) == {}


@pytest.mark.parametrize("key", [{}, {"of": "squares"}, {**KEY, "rows": 5}, {**KEY, "more": None}])
def test_parts_of_other_work_are_dropped(three, key):
    Parts(OUT).claim(key)
    assert 0 not in Parts(OUT) and os.listdir("below/.squares.h5.parts") == ["parts.json"]


def test_a_folder_without_a_key_is_of_an_earlier_version():
    Path("below/.squares.h5.parts").mkdir(parents=True)
    Path("below/.squares.h5.parts/000000.json").write_text("{}")
    Parts(OUT).claim(KEY)
    assert 0 not in Parts(OUT)


def test_a_part_without_its_facts_is_absent(three, monkeypatch):
    """As a kill between the arrays and the facts leaves it."""

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dmzcli.system.parts.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            three.write(3, part(3))
    assert 3 not in three
    three.write(3, part(7))
    assert three.join("marks", 4)[-1] == 7


def test_a_full_disk_is_told(three, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"^no space left to write below/\.squares\.h5\.parts/000003"):
        three.write(3, part(3))
    assert 3 not in three and not list(Path("below").rglob("*.tmp"))


def test_removed(three):
    three.remove()
    assert os.listdir("below") == []


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_a_kill_while_they_are_removed_leaves_none_to_be_taken(three, monkeypatch, survivors):
    """Whichever files a removal reached first, the same work takes what is left for no part."""

    def killed(folder):
        for file in sorted(Path(folder).glob("*.npy"))[survivors:]:
            file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dmzcli.system.parts.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            three.remove()
    again = Parts(OUT)
    again.claim(KEY)
    assert not any(number in again for number in range(3))


def test_parts_are_named_by_what_they_are_parts_of(three):
    """A writer of other work, which holds no lock, cannot overwrite one."""
    other = Parts(OUT)
    other.know({"of": "cubes"})
    other.write(1, {"values": np.zeros((4, 1), np.int64)})
    np.testing.assert_array_equal(three.read(1, "values"), part(1)["values"])
    assert len(three.join("values", 3)) == 12


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_part_that_is_not_what_was_written_is_made_anew(three, damage):
    (file,) = Path("below/.squares.h5.parts").glob("000001-*.values.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-9])
    with pytest.raises(UserError, match=r"000001-.*\.values\.npy is not what was written$") as caught:
        three.join("values", 3)
    assert "made anew" in caught.value.hint
    assert [number in three for number in range(3)] == [True, False, True]
    three.write(1, part(1))
    assert len(three.join("values", 3)) == 12


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"encoding.json": "{}", "000000.safetensors": ""}, "an earlier version of dmz"),
        (
            {"parts.json": '{"of": "squares", "rows": 4}', "000000.values.npy": ""},
            "an earlier version of dmz",
        ),
        (
            {"parts.json": '{"layout": 2, "key": {}}', "000000-abcdef12.json": ""},
            "other settings or other data",
        ),
        ({"000000-abcdef12.json": ""}, None),  # the rest of finished work
        ({}, None),
    ],
)
def test_what_is_thrown_away_is_told(files, told):
    folder = Path("below/.squares.h5.parts")
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    said = []
    Parts(OUT).claim(KEY, said.append)
    assert said == ([f"{folder}: the parts of {told} in it are thrown away"] if told else [])
    assert os.listdir(folder) == ["parts.json"]
