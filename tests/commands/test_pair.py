"""Pairs on the command line: two runs under one name, their tables, and the map between them."""

import json
import shutil
import time
from pathlib import Path

import numpy as np

from dmzcli.codes.table import BitTable

FAST = ("--device", "cpu")


def make(dmz, *arguments):
    """Runs a command that must succeed."""
    ended = dmz(*arguments)
    assert ended.code == 0, ended.err
    return ended


def test_two_runs_under_one_name_and_the_map(dmz, make_pairs, tiny_settings):
    make_pairs("pairs", (60, 10, 10))
    train = ("train", "pairs", "--pair", *tiny_settings, "--max-steps", "2", *FAST)
    trained = make(dmz, *train, "--json").json
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        f"{trained['pair']}-A",
        f"{trained['pair']}-B",
    ]
    assert [trained[side]["step"] for side in "AB"] == [2, 2]
    for side in "AB":
        config = json.loads(Path(trained[side]["run"], "config.json").read_text())
        assert config["data"]["side"] == side
    assert make(dmz, *train, "--json").json["A"]["run"] == trained["A"]["run"]  # the same command goes on
    encoded = make(dmz, "encode", "--pair", trained["pair"], *FAST, "--json").json
    one, two = (BitTable.read(encoded[side]["bits"]) for side in "AB")
    assert one.names == two.names and len(one.bits) == 80 and "-A/" in one.dataset and "-B/" in two.dataset
    for direction, (given, drawn) in {"A-to-B": "AB", "B-to-A": "BA"}.items():
        fitted = make(
            *(dmz, "fit-prior", "--pair", trained["pair"], "--kind", "bernoulli"),
            *("--direction", direction, "--json"),
        ).json
        folder = Path(trained[drawn]["run"], "priors", f"bernoulli-given-{trained['pair']}-{given}")
        assert Path(fitted["prior"]) == folder and fitted["given_dim"] == 8


def test_the_hours_of_the_second_side_begin_when_the_first_ends(dmz, make_pairs, tiny_settings, monkeypatch):
    """By the clock this process began two hours ago: an hour is over for A, and not for B."""
    make_pairs("pairs", (60, 10, 10))
    monkeypatch.setattr("dmzcli.system.processes.begun", lambda: time.monotonic() - 7200)
    hours = ("--max-hours", "1", "--max-steps", "4")
    trained = make(dmz, "train", "pairs", "--pair", *hours, *tiny_settings, *FAST, "--json").json
    assert [trained[side]["finished"] for side in "AB"] == [False, True]


def test_the_name_of_a_pair_is_the_runs(dmz, make_pairs, tiny_settings):
    make_pairs("pairs", (60, 10, 10))
    settings = (*tiny_settings, "--set", "model.bits=4", "--max-steps", "1")
    make(dmz, "train", "pairs", "--pair", "--run", "runs/mine", *settings, *FAST)
    assert sorted(path.name for path in Path("runs").iterdir()) == ["mine-A", "mine-B"]


def test_mistakes_of_pairs(dmz, paired, tiny_settings):
    def refused(words, *arguments):
        error, hint = dmz(*arguments).mistake()
        assert words in error, error
        return hint

    hint = refused("there is no pair 'digit'", "encode", "--pair", "digit")
    assert "did you mean 'digits'?" in hint
    refused("--pair trains both sides", "train", str(paired), "--pair", "--set", "data.side=A")
    refused("--run means nothing with --pair", "encode", "--pair", "digits", "--run", "runs/digits-A")
    refused("unknown direction 'A-B'", "fit-prior", "--pair", "digits", "--direction", "A-B")
    refused("--given means nothing with --pair", "fit-prior", "--pair", "digits", "--given", "labels")
    refused("--direction means nothing without --pair", "fit-prior", "--direction", "B-to-A")
    table = BitTable.read("runs/digits-A/bits.h5")
    names = list(table.names)
    names[0] = "train/0/other.png"
    object.__setattr__(table, "names", tuple(names))
    table.write(Path("runs/digits-A/bits.h5"))
    refused("its row 0 is train/0/other.png", "fit-prior", "--pair", "digits", "--kind", "uniform")
    object.__setattr__(table, "model", "0" * 64)
    table.write(Path("runs/digits-A/bits.h5"))
    refused("holds the bits of another model", "fit-prior", "--pair", "digits", "--kind", "uniform")
    Path("runs/digits-A/bits.h5").unlink()
    refused("runs/digits-A has no bits.h5", "fit-prior", "--pair", "digits", "--kind", "uniform")
    Path("runs/digits-A").rename("runs/kept")
    refused("the pair 'digits' has no side A", "encode", "--pair", "digits")
    shutil.copytree("runs/digits-B", "runs/digits-A")
    refused("runs/digits-A was trained on side B", "encode", "--pair", "digits")


def test_pictures_that_are_no_pairs(dmz, tiny_settings, digits):
    from PIL import Image

    Path("single").mkdir()
    for row in range(4):
        Image.fromarray(np.ascontiguousarray(digits.images[row, ..., 0])).save(f"single/{row}.png")
    error, _ = dmz("train", "single", "--pair", *tiny_settings, "--max-steps", "1", *FAST).mistake()
    assert "one half of" in error and "is 4 × 8 pixels (width × height), not square" in error


def test_day_and_night_from_a_folder_alone(dmz, tiny_settings, digits):
    """A pix2pix set that nobody has heard of: colored pictures side by side, no classes, no code."""
    from PIL import Image

    for split, name, count in (("train", "train", 50), ("valid", "val", 8), ("test", "test", 8)):
        Path("day2night", name).mkdir(parents=True)
        for row in digits.rows(split)[:count]:
            day = np.repeat(digits.images[row], 3, axis=2)
            night = (day * [0.1, 0.2, 0.6]).astype(np.uint8)
            Image.fromarray(np.concatenate([day, night], 1)).save(f"day2night/{name}/{row}.png")
    make(dmz, "train", "day2night", "--pair", "--run", "runs/dn", *tiny_settings, "--max-steps", "2", *FAST)
    make(dmz, "encode", "--pair", "dn", *FAST)
    make(dmz, "fit-prior", "--pair", "dn", "--kind", "bernoulli")
    made = make(
        dmz, "translate", "day2night", "--pair", "dn", "-n", "2", "--steps", "2", *FAST, "--json"
    ).json
    assert (made["n_inputs"], made["targets"]) == (8, True)
    with np.load(Path(made["folder"]) / "translations.npz") as archive:
        assert archive["images"].shape == (8, 2, 8, 8, 3)
