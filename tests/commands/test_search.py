"""``dmz search``: the neighbors of a picture and of a row, near-duplicates, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.codes.table import BitTable


@pytest.fixture
def picture(workshop, digits):
    Image.fromarray(digits.images[7, ..., 0]).save("seven.png")
    return "seven.png"


@pytest.mark.parametrize("query", ["picture", "row"])
def test_an_image_finds_itself_and_the_nearest_of_brute_force(dmz, picture, query):
    what = [picture] if query == "picture" else ["--row", 7]
    out = dmz("search", *what, "--run", "runs/tiny", "-k", 12, "--engine", "numpy", "--json").json
    bits = BitTable.read("runs/tiny/bits.h5").bits
    distances = (bits != bits[7]).sum(1)
    order = np.argsort(distances, kind="stable")[:12]
    assert [row["image"] for row in out["neighbors"]] == order.tolist()
    assert [row["distance"] for row in out["neighbors"]] == distances[order].tolist()
    sheet = Image.open(out["picture"])
    assert Path(out["picture"]) == Path("runs/tiny/search.png") and sheet.width >= 10 * 48


def test_a_split_is_searched_alone(dmz, picture):
    out = dmz("search", picture, "--split", "test", "--out", "near.png", "--json").json
    assert {row["split"] for row in out["neighbors"]} == {"test"} and Path("near.png").is_file()


def test_duplicates_are_the_equal_codes(dmz, workshop):
    out = dmz("search", "--duplicates", 0, "--json").json
    bits = BitTable.read("runs/tiny/bits.h5").bits
    _, group, sizes = np.unique(bits, axis=0, return_inverse=True, return_counts=True)
    assert [len(part) for part in out["groups"]] == sorted(sizes[sizes > 1], reverse=True)
    for part in out["groups"]:
        assert len(set(group.ravel()[part])) == 1
    assert Path(out["picture"]).is_file()


def test_a_picture_of_another_size_is_refused(dmz, workshop):
    Image.new("L", (9, 9)).save("nine.png")
    error, hint = dmz("search", "nine.png").mistake()
    assert "nine.png is 9 × 9 pixels" in error and "8 × 8" in error and "--fit" in hint
    assert dmz("search", "nine.png", "--fit", "resize", "--json").code == 0


def test_a_table_of_another_run_is_refused(dmz, picture, run):
    weights = run.path.parent / "other"
    weights.mkdir()
    for name in ("config.json", "model.safetensors"):
        (weights / name).write_bytes((run.path / name).read_bytes())
    table = BitTable.read(run.bits)
    BitTable(**{**vars(table), "model": "0" * 64}).write("foreign.h5")
    error, _ = dmz("search", picture, "--run", "runs/tiny", "--bits", "foreign.h5").mistake()
    assert "another model" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to search for"),
        (["a.png", "--row", "3"], "IMAGE and --row"),
        (["nothere.png"], "nothere.png"),
        (["--row", "99999"], "no image 99999"),
        (["--row", "1", "--engine", "annoy"], "annoy"),
        (["--row", "1", "--split", "tset"], "tset"),
    ],
)
def test_what_it_refuses(dmz, workshop, arguments, says):
    error, _ = dmz("search", *arguments).mistake()
    assert says in error


def test_the_json_is_whole(dmz, picture):
    out = dmz("search", picture, "--json").json
    assert json.loads(json.dumps(out)) == out and out["dim"] == 8
