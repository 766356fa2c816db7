"""The data commands, and packs wherever a dataset is taken."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.codes.table import BitTable
from dmzcli.data import load


def make(dmz, *arguments):
    ended = dmz(*arguments)
    assert ended.code == 0, ended.err
    return ended


@pytest.fixture
def pictures(digits):
    """Sixty digits as pictures in class folders."""
    for row in [*digits.rows("train")[:40], *digits.rows("valid")[:20]]:
        file = Path("pictures") / str(digits.labels[row]) / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[row, :, :, 0]).save(file)
    return Path("pictures")


def test_prepare_then_train_then_encode_then_probe(dmz, tiny_settings, pictures):
    facts = make(dmz, "data", "prepare", "pictures", "--out", "pack.h5", "--json").json
    assert facts["pack"] == "pack.h5" and facts["images"] == 60 and facts["resumed_pictures"] == 0
    assert facts["dataset"] == load("pictures").identity and facts["splits"]["train"] == 48
    trained = make(dmz, "train", "pack.h5", *tiny_settings, "--max-steps", "2", "--json").json
    assert trained["run"].startswith("runs/pack-") and trained["dataset"] == facts["dataset"]
    assert make(dmz, "encode", "pack.h5", "--json").json["rows"] == 60
    assert (
        make(dmz, "encode", "pictures", "--run", trained["run"], "--out", "b.h5", "--json").json["rows"] == 60
    )
    one, other = BitTable.read(Path(trained["run"]) / "bits.h5"), BitTable.read("b.h5")
    np.testing.assert_array_equal(one.bits, other.bits)
    assert one.dataset == other.dataset == facts["dataset"]
    assert len(make(dmz, "probe", "--json").json["probes"]) == 7  # the pixels come from the pack


def test_a_pack_of_a_dataset_finds_the_runs_trained_on_it(dmz, workshop):
    make(dmz, "data", "prepare", "digits", "--out", "pack.h5")
    facts = make(dmz, "encode", "pack.h5", "--out", "b.h5", "--json").json
    assert facts["run"] == "runs/tiny" and facts["dataset"] == load("digits").identity
    np.testing.assert_array_equal(BitTable.read("b.h5").bits, BitTable.read("runs/tiny/bits.h5").bits)


def test_a_run_on_a_cropped_pack_knows_the_crop(dmz, tiny_settings, pictures):
    fit = ("--set", "data.size=8", "--set", "data.fit=squash")
    facts = make(dmz, "data", "prepare", "pictures", "--out", "pack.h5", *fit, "--json").json
    assert "/8x8x1-squash/" in facts["dataset"]
    trained = make(dmz, "train", "pack.h5", *tiny_settings, "--max-steps", "2", "--json").json
    assert make(dmz, "info", trained["run"], "--json").json["config"]["data"]["fit"] == "squash"
    for dataset in ("pack.h5", "pictures"):  # of the pack, and of the pictures themselves
        assert (
            make(dmz, "encode", dataset, "--run", trained["run"], "--json").json["dataset"]
            == facts["dataset"]
        )


def test_pictures_are_prepared_once_and_it_says_so(dmz, tiny_settings, pictures):
    first = make(dmz, "train", "pictures", *tiny_settings, "--max-steps", "2")
    assert "pictures: preparing its images once, into " in first.err and os.environ["DMZ_CACHE"] in first.err
    again = make(dmz, "encode", "pictures")
    assert "pictures: taking the images prepared in " in again.err
    cached = make(dmz, "data", "prepare", "pictures", "--json").json
    assert cached["pack"] is None and cached["images"] == 60


def test_show_writes_a_sheet_and_counts(dmz, pictures):
    facts = make(dmz, "data", "show", "pictures", "--json").json
    assert facts["sheet"] == "pictures-sheet.png" and facts["counts"][-1] == {
        "what": "all", "train": 48, "valid": 6, "test": 6,
    }  # fmt: skip
    assert [row["what"] for row in facts["counts"][:-1]] == list("0123456789")
    assert sum(row["train"] for row in facts["counts"][:-1]) == 48
    sheet = np.asarray(Image.open("pictures-sheet.png"))
    first = load("pictures")
    tile = first.images[np.flatnonzero(first.labels == 0)[0]].repeat(6, 0).repeat(6, 1)
    np.testing.assert_array_equal(sheet[16:64, 2:50], tile.repeat(3, 2))  # below the name, six pixels for one
    assert (sheet[:16] != 255).any()  # the name itself
    shown = make(dmz, "data", "show", "pictures", "--out", "other.png").out
    assert "train" in shown and "48" in shown and Path("other.png").exists()


def test_show_of_splits_where_there_are_no_classes(dmz):
    np.save("a.npy", np.full((12, 8, 8), 7, np.uint8))
    assert [row["what"] for row in make(dmz, "data", "show", "a.npy", "--json").json["counts"]] == ["all"]


def test_bad_pictures(dmz, tiny_settings, pictures):
    bad = next(pictures.rglob("*.png"))
    bad.write_bytes(b"broken")
    for command in (
        ("train", "pictures", *tiny_settings, "--max-steps", "2"),
        ("data", "prepare", "pictures", "--out", "p.h5"),
        ("data", "show", "pictures"),
    ):
        error, hint = dmz(*command).mistake()
        assert str(bad.name) in error and "--skip-bad" in hint
        assert "1 bad picture left out, the first: " in make(dmz, *command, "--skip-bad").err
    facts = make(dmz, "encode", "pictures", "--json").json  # the run remembers
    assert facts["rows"] == 59


def test_info_of_a_pack(dmz):
    make(dmz, "data", "prepare", "digits", "--out", "pack.h5")
    facts = make(dmz, "info", "pack.h5", "--json").json
    assert facts["what"] == "image pack" and facts["splits"] == {"train": 1197, "valid": 200, "test": 400}
    assert (facts["crop"], facts["side"], facts["lossy"]) == ("exact", None, False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("data", "prepare", "digits", "--out", "pack"), "--out 'pack' is no name of an image pack"),
        (("data", "prepare", "digts"), "unknown dataset 'digts'"),
        (("data", "show", "nowhere/pictures"), "nowhere/pictures does not exist"),
        (("data", "show", "nowhere.h5"), "nowhere.h5 does not exist"),
        (("data", "prepare", "digits", "--set", "data.fit=d3c"), "data.fit = 'd3c'"),
        (("train", "runs/tiny/bits.h5"), "runs/tiny/bits.h5 is an HDF5 file, but not an image pack"),
        (("probe", "pack.h5"), "pack.h5 is an HDF5 file, but not a bit table"),
    ],
)
def test_mistakes(dmz, workshop, arguments, sentence):
    make(dmz, "data", "prepare", "digits", "--out", "pack.h5")
    assert sentence in dmz(*arguments).mistake()[0]


ARCHIVE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "cifar10-jpeg.tar.xz"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10-jpeg"])
def test_real_datasets_go_the_whole_way(dmz, tiny_settings, name):
    """Prepared, trained on and encoded: as many codes as there are images."""
    from dmzcli.data import status

    there = {row["name"]: row["present"] for row in status()}
    if not (there["fashion-mnist"] if name == "fashion-mnist" else ARCHIVE.exists()):
        pytest.skip(f"{name} is not on this machine")
    dataset = name if name == "fashion-mnist" else ARCHIVE
    facts = make(dmz, "data", "prepare", dataset, "--out", "pack.h5", "--json").json
    at = ("--set", "model.attention=16", "--set", "model.cross_attention=16")
    make(dmz, "train", "pack.h5", *tiny_settings, *at, "--max-steps", "4")
    encoded = make(dmz, "encode", "pack.h5", "--json").json
    assert encoded["rows"] == facts["images"] == (70_000 if name == "fashion-mnist" else 60_000)
    assert encoded["dataset"] == facts["dataset"]
