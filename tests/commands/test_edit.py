"""``dmz edit``: folder, grid and card; and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.codes.table import BitTable
from dmzcli.evaluation import classifier_training


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(classifier_training, "STEPS", 20)


@pytest.fixture
def pictures(workshop, digits):
    for i in (7, 8):
        Image.fromarray(digits.images[i, ..., 0]).save(f"{i}.png")
    return ["7.png", "8.png"]


def test_pictures_of_ones_own(dmz, pictures):
    out = dmz("edit", *pictures, "--raise", "class:3", "--steps", 5, "--json").json
    assert (out["images"], out["bits"], out["most"], out["split"]) == (2, 8, 2, None)
    assert [edit["target"] for edit in out["edits"]] == ["3", "3"]
    assert all(len(edit["flipped"]) <= 2 for edit in out["edits"])
    folder = Path(out["folder"])
    assert folder.parent == Path("runs/tiny/edits")
    assert sorted(file.name for file in (folder / "images").iterdir()) == ["7.png", "8.png"]
    assert Image.open(folder / "grid.png").width >= 4 * 48
    assert json.loads((folder / "card.json").read_text())["judged"] == out["judged"]


def test_a_split_without_what_is_raised(dmz, workshop):
    out = dmz("edit", "--split", "test", "-n", 12, "--raise", "3", "--steps", 3, "--out", "e", "--json").json
    table = BitTable.read("runs/tiny/bits.h5")
    labels = dict(zip(table.index.tolist(), table.labels.tolist(), strict=True))
    assert out["images"] == 12 and all(labels[int(edit["image"])] != 3 for edit in out["edits"])
    assert out["folder"] == "e" and Path("e/grid.png").is_file()
    lowered = dmz("edit", "--split", "test", "-n", 3, "--lower", "3", "--steps", 2, "--json").json
    assert all(labels[int(edit["image"])] == 3 for edit in lowered["edits"])


def test_other_classes_locks_and_a_brake(dmz, workshop):
    ask = (
        "edit",
        "--split",
        "test",
        "-n",
        10,
        "--raise-other",
        "--steps",
        2,
        "--most",
        8,
        "--lock",
        "0-2,5",
        "--json",
    )
    free, braked = dmz(*ask).json, dmz(*ask, "--prior", "bernoulli", "--brake", 3).json
    for out in (free, braked):
        assert not {0, 1, 2, 5} & {bit for edit in out["edits"] for bit in edit["flipped"]}
    assert braked["flips"]["value"] < free["flips"]["value"]
    assert braked["prior"]["kind"] == "bernoulli" and free["prior"] is None


def test_tables_for_people(dmz, pictures):
    out = dmz("edit", "7.png", "--raise", "class:3", "--steps", 2)
    assert "as many at random" in out.out and out.code == 0


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["7.png"], "nothing to do", "--raise"),
        (["7.png", "--raise", "3", "--lower", "4"], "--raise and --lower", "name one"),
        (["--raise", "3"], "no image to edit", "--split test"),
        (["7.png", "--split", "test", "--raise", "3"], "pictures and --split", "name pictures"),
        (["7.png", "--raise-other"], "--raise-other means nothing", "leave it out"),
        (["7.png", "-n", "4", "--raise", "3"], "--count means nothing", "leave it out"),
        (["--split", "tset", "--raise", "3"], "unknown split", "test"),
        (["7.png", "--raise", "33"], "there is no class or attribute '33'", "3"),
        (["7.png", "--raise", "3", "--lock", "64"], "--lock 64 is no bit of a code of 8", "0 to 7"),
        (["7.png", "--raise", "3", "--lock", "class:3"], "--lock keeps '3'", "leave it out"),
        (["7.png", "--raise", "3", "--most", "9"], "--most 9 is more than the 8 bits", "quarter"),
        (["7.png", "--raise", "3", "--threshold", "1"], "--threshold 1 is no probability", "0.9"),
        (["7.png", "--raise", "3", "--brake", "1"], "there is no --prior", "--prior"),
        (["7.png", "--raise", "3", "--prior", "mixture"], "has no prior 'mixture'", "fit it"),
        (["big.png", "--raise", "3"], "big.png is 9 × 8 pixels", "--fit"),
        (["none.png", "--raise", "3"], "none.png", ""),
    ],
)
def test_mistakes(dmz, pictures, arguments, message, hint):
    Image.fromarray(np.zeros((8, 9), np.uint8)).save("big.png")
    error, advice = dmz("edit", *arguments, "--steps", "2").mistake()
    assert message in error and hint in advice


def changed_table(**changes):
    from dataclasses import replace

    replace(BitTable.read("runs/tiny/bits.h5"), **changes).write("runs/tiny/bits.h5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None, "label_names": ()}, "no labels and no attributes"),
        ({"model": "0" * 64}, "holds the bits of another model"),
        ({"dataset": "digits/8x8x1/other"}, "but the table was made from digits/8x8x1/other"),
    ],
)
def test_tables_that_say_nothing_of_the_images(dmz, workshop, changes, message):
    changed_table(**changes)
    assert message in dmz("edit", "--split", "test", "--raise", "3", "--run", "runs/tiny").mistake()[0]


def test_one_class_in_a_split(dmz, workshop):
    table = BitTable.read("runs/tiny/bits.h5")
    changed_table(labels=np.where(table.split == 2, 3, table.labels))
    assert (
        "images of the split 'test' have one label"
        in dmz("edit", "--split", "test", "--raise", "3").mistake()[0]
    )


def test_a_prior_given_something_brakes_nothing(dmz, pictures):
    fitted = dmz("fit-prior", "--kind", "bernoulli", "--given", "labels", "--run", "runs/tiny", "--json").json
    said = dmz("edit", "7.png", "--raise", "3", "--prior", fitted["prior"], "--steps", 2).mistake()
    assert "is given something" in said[0]


def test_without_the_dataset_the_edit_is_made_and_not_judged(dmz, pictures, monkeypatch):
    config = json.loads(Path("runs/tiny/config.json").read_text())
    config["data"]["dataset"] = "celeba"
    Path("runs/tiny/config.json").write_text(json.dumps(config))
    out = dmz("edit", "7.png", "--raise", "class:3", "--steps", 2, "--json")
    assert "no classifier judges the edits" in out.err and "judged" not in out.json
    shutil.rmtree(out.json["folder"])
