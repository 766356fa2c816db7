"""Files: whole or absent, whatever happens while they are written; and readers that name what is wrong."""

import errno
import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
import torch

from dmzcli.errors import UserError
from dmzcli.system.files import (
    atomic,
    load_tensors,
    read_json,
    save_tensors,
    sha256,
    user_errors,
    write_json,
)


class Broken(Exception):
    pass


def refuse(number):
    def failing(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return failing


WRITERS = {
    "json": lambda path, value: write_json(path, {"value": value}),
    "tensors": lambda path, value: save_tensors(path, {"a": torch.full((1000,), value)}),
}


@pytest.mark.parametrize("kind", WRITERS)
class TestWriting:
    def test_a_new_file_is_there_alone(self, kind):
        WRITERS[kind](Path("below/deep/file"), 1.0)
        assert os.listdir("below/deep") == ["file"]

    def test_a_file_is_replaced(self, kind):
        WRITERS[kind]("file", 1.0)
        before = Path("file").read_bytes()
        WRITERS[kind]("file", 2.0)
        assert Path("file").read_bytes() != before and os.listdir() == ["file"]

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_full_disk_leaves_the_old_file(self, kind, call, monkeypatch):
        WRITERS[kind]("file", 1.0)
        before = Path("file").read_bytes()
        target = (os, "fsync") if call == "fsync" else (Path, "replace")
        with monkeypatch.context() as patch:
            patch.setattr(*target, refuse(errno.ENOSPC))
            with pytest.raises(UserError, match=r"^no space left to write file$") as error:
                WRITERS[kind]("file", 2.0)
        assert error.value.hint
        assert Path("file").read_bytes() == before and os.listdir() == ["file"]

    @pytest.mark.parametrize(
        ("number", "sentence"),
        [(errno.EDQUOT, "no space left to write file"), (errno.EROFS, "no permission to use file")],
    )
    def test_other_refusals_are_told_too(self, kind, number, sentence, monkeypatch):
        monkeypatch.setattr(os, "fsync", refuse(number))
        with pytest.raises(UserError, match=f"^{sentence}$"):
            WRITERS[kind]("file", 1.0)
        assert os.listdir() == []

    def test_a_folder_in_the_way_is_named(self, kind):
        Path("file").mkdir()
        with pytest.raises(UserError, match=r"^file is not what was expected"):
            WRITERS[kind]("file", 1.0)
        assert os.listdir() == ["file"]

    def test_a_file_for_a_folder_is_named(self, kind):
        Path("notes").write_text("mine")
        with pytest.raises(UserError, match=r"^notes/file is not what was expected"):
            WRITERS[kind]("notes/file", 1.0)
        assert Path("notes").read_text() == "mine"

    def test_permissions_are_those_of_any_new_file(self, kind):
        before = os.umask(0o027)
        try:
            WRITERS[kind]("file", 1.0)
        finally:
            os.umask(before)
        assert stat.S_IMODE(Path("file").stat().st_mode) == 0o640


def test_an_exception_leaves_nothing_behind():
    Path("file").write_text("old")
    with pytest.raises(Broken), atomic("file") as temporary:
        temporary.write_text("half")
        raise Broken
    assert Path("file").read_text() == "old" and os.listdir() == ["file"]


def test_the_target_is_untouched_until_the_end():
    with atomic("file") as temporary:
        temporary.write_text("new")
        assert not Path("file").exists() and temporary.parent.samefile(".file.tmp")
    assert Path("file").read_text() == "new" and os.listdir() == ["file"]


def test_what_killed_writers_left_is_swept():
    """Of this version, in the file's temporary folder; of earlier ones, next to it."""
    Path(".file.tmp").mkdir()
    for stale in (".file.tmp/1234.json", ".file.x8_abcde.tmp", ".file.abcdefgh.tmp", ".file.lock"):
        Path(stale).write_text("half")
    kept = ["file", ".file.tmp.txt", ".other.abcdefgh.tmp", "file.abc.tmp"]
    for other in kept:
        Path(other).write_text("whole")
    write_json("file", {})
    assert sorted(os.listdir()) == sorted(kept)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full(small_disk):
    file = small_disk / "file"
    save_tensors(file, {"a": torch.zeros(100_000)})
    before = file.read_bytes()
    for write in (
        lambda: save_tensors(file, {"a": torch.ones(400_000)}),
        lambda: save_tensors(small_disk / "new", {"a": torch.ones(400_000)}),
        lambda: write_json(file, ["x" * 1000] * 1000),
    ):
        with pytest.raises(UserError, match=r"^no space left to write"):
            write()
        assert os.listdir(small_disk) == ["file"]
    assert file.read_bytes() == before


# Reading ----------------------------------------------------------------------------------------------------


def test_json_comes_back():
    write_json("file", {"a": [1, 2.5, None, "ü"]})
    assert read_json("file") == {"a": [1, 2.5, None, "ü"]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "file is not valid JSON"),
        (b'{"a": 1', "file is not valid JSON"),
        (b"\xff\xfe\x00", "file is not valid JSON"),
        (b"[1]", "file holds a JSON list, not an object"),
        (b"null", "file holds a JSON NoneType, not an object"),
        (b'"text"', "file holds a JSON str, not an object"),
    ],
)
def test_damaged_json_is_named(content, sentence):
    Path("file").write_bytes(content)
    with pytest.raises(UserError, match=f"^{sentence}"):
        read_json("file")


def test_tensors_come_back():
    tensors = {"a": torch.arange(6).reshape(2, 3), "b": torch.rand(4).bfloat16(), "c": torch.tensor(3)}
    save_tensors("file", tensors, {"k": "v"})
    loaded, metadata = load_tensors("file")
    assert metadata == {"k": "v"} and loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_views_and_gradients_can_be_saved():
    whole = torch.arange(12.0, requires_grad=True).reshape(3, 4)
    save_tensors("file", {"a": whole.T, "b": whole[1]})
    assert torch.equal(load_tensors("file")[0]["a"], whole.T)


def test_equal_tensors_make_equal_bytes():
    for name in ("one", "two"):
        save_tensors(name, {"b": torch.ones(3), "a": torch.zeros(2)}, {"k": "v"})
    assert Path("one").read_bytes() == Path("two").read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04" + b"\x00" * 60]
)
def test_files_that_are_no_safetensors_are_named(content):
    Path("file").write_bytes(content)
    with pytest.raises(UserError, match=r"^file is not a whole safetensors file"):
        load_tensors("file")


@pytest.mark.parametrize("read", [read_json, load_tensors, sha256])
def test_missing_files_are_named(read):
    with pytest.raises(UserError, match=r"^missing does not exist$"):
        read("missing")


@pytest.mark.parametrize("read", [read_json, load_tensors, sha256])
def test_folders_are_no_files(read):
    Path("folder").mkdir()
    with pytest.raises(UserError, match=r"^folder is not"):
        read("folder")


def test_sha256_follows_the_file():
    Path("file").write_bytes(b"once")
    first = sha256("file")
    Path("file").write_bytes(b"and again")
    assert sha256("file") == hashlib.sha256(b"and again").hexdigest() != first


def test_sha256():
    Path("file").write_bytes(b"bits" * 1000)
    assert sha256("file") == hashlib.sha256(b"bits" * 1000).hexdigest()


def test_refusals_of_any_kind_are_told():
    with (
        pytest.raises(UserError, match=r"^file cannot be used: Input/output error$"),
        user_errors(Path("file")),
    ):
        raise OSError(errno.EIO, "Input/output error")


def test_what_is_no_refusal_stays_what_it_is():
    with pytest.raises(ValueError, match="other"), user_errors(Path("file")):
        raise ValueError("other")


def test_json_is_readable_by_people():
    write_json("file", {"a": {"b": 1}})
    text = Path("file").read_text()
    assert text.endswith("}\n") and "\n" in text.strip() and json.loads(text) == {"a": {"b": 1}}
