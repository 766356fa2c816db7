"""Bit tables: exactly the published layout, and every way a file can fail to be one."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dmzcli.codes.table import KIND, BitTable, is_bit_table
from dmzcli.errors import UserError


def table_of(rows=20, dim=11, full=True):
    rng = np.random.default_rng(dim)
    return BitTable(
        bits=rng.integers(0, 2, (rows, dim), dtype=np.uint8),
        split=(np.arange(rows) % 3).astype(np.uint8),
        index=np.arange(rows)[::-1].copy(),
        family="bernoulli",
        cardinalities=np.full(dim, 2),
        dataset="things/8x8x1/abc",
        model="f" * 64,
        created="2025-01-02T03:04:05+00:00",
        probs=rng.random((rows, dim)).astype(np.float16) if full else None,
        labels=rng.integers(0, 3, rows) if full else None,
        label_names=("cat", "dög", "emu") if full else (),
        attributes=rng.integers(0, 2, (rows, 2), dtype=np.uint8) if full else None,
        attribute_names=("old", "blue") if full else (),
        facts={"mode": "mode", "seed": 3, "lossy": False},
    )


def equal(one, other):
    for name in ("bits", "split", "index", "cardinalities", "probs", "labels", "attributes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("family", "dataset", "model", "created", "label_names", "attribute_names", "dim"):
        assert getattr(one, name) == getattr(other, name)
    assert {name: bool(one.facts[name] == other.facts[name]) for name in one.facts} == dict.fromkeys(
        other.facts, True
    )


@pytest.mark.parametrize("dim", [1, 7, 8, 9, 64])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 20])
def test_what_is_written_is_read(dim, full, rows):
    table = table_of(rows, dim, full)
    table.write("t.h5")
    equal(BitTable.read("t.h5"), table)


def test_layout_with_h5py_and_numpy_alone(python):
    """The design's table, read by a program that knows nothing of dmz."""
    table = table_of()
    table.write("t.h5")
    out = python("""
import json, sys
import h5py, numpy as np
sys.modules["dmzcli"] = None
with h5py.File("t.h5", "r") as f:
    bits = np.unpackbits(f["bits"][:], axis=1, count=f["bits"].attrs["dim"], bitorder="big")
    print(json.dumps({
        "bits": bits.tolist(),
        "types": {name: [str(f[name].dtype), list(f[name].shape)] for name in f},
        "names": {name: [str(n) for n in f[name].attrs["names"]] for name in ("labels", "attributes")},
        "root": {k: v.tolist() if hasattr(v, "tolist") else v
                 for k, v in f.attrs.items() if k not in ("sha256", "checked")},
        "columns": {name: f[name][:].tolist() for name in ("split", "index", "labels", "attributes")},
    }))
""")
    seen = json.loads(out)
    assert seen["bits"] == table.bits.tolist()
    assert seen["types"] == {
        "bits": ["uint8", [20, 2]],
        "probs": ["float16", [20, 11]],
        "labels": ["int64", [20]],
        "attributes": ["uint8", [20, 2]],
        "split": ["uint8", [20]],
        "index": ["int64", [20]],
    }
    assert seen["names"] == {"labels": ["cat", "dög", "emu"], "attributes": ["old", "blue"]}
    root = seen["root"]
    assert (root["format"], root["version"], root["dim"]) == ("dmz-bits", 1, 11)
    assert root["family"] == "bernoulli" and root["cardinalities"] == [2] * 11
    assert (root["dataset"], root["model"], root["created"]) == (table.dataset, table.model, table.created)
    for name, values in seen["columns"].items():
        assert values == getattr(table, name).tolist()


def test_bits_are_packed_from_the_highest():
    table = table_of(1, 10, full=False)
    table.bits[:] = [[1, 0, 0, 0, 0, 0, 1, 0, 0, 1]]
    table.write("t.h5")
    with h5py.File("t.h5") as stream:
        assert stream["bits"][0].tolist() == [0b10000010, 0b01000000]


def test_absent_columns_are_absent():
    table_of(full=False).write("t.h5")
    with h5py.File("t.h5") as stream:
        assert set(stream) == {"bits", "split", "index"}


def test_rows_of_a_split():
    table = table_of(7)
    assert [table.rows(split).tolist() for split in ("train", "valid", "test")] == [[0, 3, 6], [1, 4], [2, 5]]


# Whole or absent ------------------------------------------------------------------------------------------


def test_a_failing_write_leaves_the_old_table(monkeypatch):
    table = table_of()
    table.write("t.h5")
    before = Path("t.h5").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dmzcli.system.hdf5.reserve", fail)
        with pytest.raises(UserError, match=r"^no space left to write t\.h5$"):
            table_of(5).write("t.h5")
    assert Path("t.h5").read_bytes() == before
    assert [file.name for file in Path().iterdir()] == ["t.h5"]


# What is no table -------------------------------------------------------------------------------------------


def edited(**changes):
    """A table with some root attributes changed or, for None, removed."""
    table_of().write("t.h5")
    with h5py.File("t.h5", "r+") as stream:
        for name, value in changes.items():
            if value is None:
                del stream.attrs[name]
            else:
                stream.attrs[name] = value


def columns(**changes):
    """A table with some columns replaced or, for None, removed."""
    table_of().write("t.h5")
    with h5py.File("t.h5", "r+") as stream:
        for name, value in changes.items():
            kept = dict(stream[name].attrs) if name in stream else {}
            if name in stream:
                del stream[name]
            if value is not None:
                stream.create_dataset(name, data=value).attrs.update(kept)


def test_missing():
    with pytest.raises(UserError, match=r"^t\.h5 does not exist$"):
        BitTable.read("t.h5")
    assert not is_bit_table(Path("t.h5"))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\x00" * 500]
)
def test_foreign_bytes(content):
    Path("t.h5").write_bytes(content)
    with pytest.raises(UserError, match=r"^t\.h5 is no whole bit table"):
        BitTable.read("t.h5")
    assert not is_bit_table(Path("t.h5"))


def test_a_folder():
    Path("t.h5").mkdir()
    with pytest.raises(UserError, match=r"^t\.h5 is not"):
        BitTable.read("t.h5")
    assert not is_bit_table(Path("t.h5"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(share):
    table_of(200).write("t.h5")
    data = Path("t.h5").read_bytes()
    Path("t.h5").write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"^t\.h5 is (no whole bit table|altered)"):
        BitTable.read("t.h5")


def test_an_hdf5_file_of_something_else():
    with h5py.File("t.h5", "w") as stream:
        stream["weights"] = np.zeros(3)
    with pytest.raises(UserError, match=r"^t\.h5 is an HDF5 file, but not a bit table$"):
        BitTable.read("t.h5")
    assert not is_bit_table(Path("t.h5"))


@pytest.mark.parametrize("version", [2, 0, "1"])
def test_another_version(version):
    edited(version=version)
    with pytest.raises(UserError, match=rf"^t\.h5 is a bit table of version {version}, not 1$"):
        BitTable.read("t.h5")


@pytest.mark.parametrize("name", ["dim", "family", "cardinalities", "dataset", "model", "created"])
def test_missing_attributes_are_named(name):
    edited(**{name: None})
    with pytest.raises(UserError, match=rf"^t\.h5 lacks '{name}' of a bit table$"):
        BitTable.read("t.h5")


@pytest.mark.parametrize("name", ["bits", "split", "index"])
def test_missing_columns_are_named(name):
    columns(**{name: None})
    with pytest.raises(UserError, match=rf"^t\.h5 lacks '{name}' of a bit table$"):
        BitTable.read("t.h5")


@pytest.mark.parametrize("dim", [3, 17, 0, -1, "eleven"])
def test_a_dim_that_does_not_fit(dim):
    edited(dim=dim)
    with pytest.raises(UserError, match=r"^t\.h5"):
        BitTable.read("t.h5")


BAD_COLUMNS = {
    "short split": {"split": np.zeros(19, np.uint8)},
    "long index": {"index": np.zeros(21, np.int64)},
    "short labels": {"labels": np.zeros(3, np.int64)},
    "short probs": {"probs": np.zeros((3, 11), np.float16)},
    "narrow probs": {"probs": np.zeros((20, 10), np.float16)},
    "flat probs": {"probs": np.zeros(20, np.float16)},
    "unknown split": {"split": np.full(20, 3, np.uint8)},
    "float split": {"split": np.full(20, 0.5)},
    "flat bits": {"bits": np.zeros(20, np.uint8)},
    "wide bits": {"bits": np.zeros((20, 3), np.uint8)},
    "unpacked bits": {"bits": np.zeros((20, 11), np.uint8)},
    "float bits": {"bits": np.zeros((20, 2), np.float32)},
    "scalar index": {"index": np.int64(3)},
    "text labels": {"labels": np.array([b"cat"] * 20)},
    "label beyond its names": {"labels": np.full(20, 3, np.int64)},
    "negative label": {"labels": np.full(20, -1, np.int64)},
    "negative index": {"index": np.full(20, -1, np.int64)},
    "narrow attributes": {"attributes": np.zeros((20, 1), np.uint8)},
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_inconsistent_columns_are_named(name):
    columns(**BAD_COLUMNS[name])
    (column,) = BAD_COLUMNS[name]
    with pytest.raises(UserError, match=rf"^t\.h5: /{column} ") as error:
        BitTable.read("t.h5")
    assert error.value.hint


def test_a_group_where_a_column_belongs():
    table_of().write("t.h5")
    with h5py.File("t.h5", "r+") as stream:
        del stream["probs"]
        stream.create_group("probs")
    with pytest.raises(UserError, match=r"^t\.h5: /probs "):
        BitTable.read("t.h5")


def test_further_attributes_and_columns_are_no_mistake():
    """A later version may add to the format; what is known is read."""
    edited(note="made by hand")
    with h5py.File("t.h5", "r+") as stream:
        stream["weight"] = np.ones(20)
    assert str(BitTable.read("t.h5").facts["note"]) == "made by hand"


def test_format_constants():
    assert (KIND.format, KIND.version) == ("dmz-bits", 1)
