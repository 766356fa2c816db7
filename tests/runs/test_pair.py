"""Pairs of runs: found by name or path, and refused where one is not what its name says."""

import json
from pathlib import Path

import pytest

from dmzcli.errors import UserError
from dmzcli.runs.pair import find_pair, names_of_pairs


def change(run, section, name, value):
    file = Path(run) / "config.json"
    config = json.loads(file.read_text())
    config[section][name] = value
    file.write_text(json.dumps(config))


def test_a_pair_by_its_name_or_its_path(paired):
    for name in ("digits", "runs/digits", str(Path("runs/digits").absolute())):
        pair = find_pair(name)
        assert (pair.name, pair.a.path.name, pair.b.path.name) == ("digits", "digits-A", "digits-B")
    assert pair.sides("A-to-B") == (pair.a, pair.b) and pair.sides("B-to-A") == (pair.b, pair.a)
    assert names_of_pairs() == ["digits"]


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("data", "side", "A", "runs/digits-B was trained on side A of its pairs, not on side B"),
        ("data", "dataset", "/elsewhere", "were trained on different datasets: .*pairs and /elsewhere"),
        ("model", "latent", "none", "runs/digits-B is a plain diffusion model"),
    ],
)
def test_a_pair_that_is_none(paired, section, name, value, message):
    change("runs/digits-B", section, name, value)
    with pytest.raises(UserError, match=message):
        find_pair("digits")


def test_two_sets_of_single_pictures_may_be_a_pair(paired):
    """Of aligned datasets that lie apart: the tables show whether their rows belong together."""
    for side in "AB":
        change(f"runs/digits-{side}", "data", "side", None)
    change("runs/digits-B", "data", "dataset", "/elsewhere")
    assert find_pair("digits").b.config.data.dataset == "/elsewhere"
