"""dmz probe: everything in one table, transfer, and mistakes."""

import dataclasses
import json

import numpy as np
import pytest

from dmzcli.codes.table import BitTable

QUICK = ("--heads", "logistic", "--representations", "bits,probs")


def test_everything_at_once(dmz, run):
    made = dmz(
        "probe", "--json", "--heads", "logistic,knn", "--budgets", "50,100", "--draws", 2,
        "--retrieval", "splits", "--protocol", "paper",
    )  # fmt: skip
    facts = made.json
    names = ["bits", "untrained bits", "pixels", "probabilities", "PCA of pixels"]
    names += ["k-means, as wide", "k-means, as many bits"]
    assert [(s["budget"], s["head"], s["representation"]) for s in facts["scores"]] == [
        (budget, head, name) for budget in (0.5, 1.0) for head in ("logistic", "knn") for name in names
    ]
    assert [probe["name"] for probe in facts["probes"]] == names
    whole = [s for s in facts["scores"] if (s["head"], s["budget"]) == ("logistic", 1.0)]
    assert [s["test"] for s in whole] == [probe["test_accuracy"] for probe in facts["probes"]]
    assert all(s["low"] <= s["test"] <= s["high"] for s in facts["scores"])
    assert facts["retrieval"]["queries"] == 400 and facts["retrieval"]["database"] == 1197
    assert facts["paper"][0]["rows"] == 1797 and len(facts["paper"][0]["folds"]) == 5
    kept = json.loads((run.path / "evaluation" / "probe-bits.json").read_text())
    assert kept["scores"] == facts["scores"]


def test_a_person_reads_tables(dmz, run):
    shown = dmz("probe", *QUICK).out
    assert "probes of labels, fitted on 1,197, chosen on 200, tested on 400 images" in shown
    assert "minus bits" in shown and "95% interval" in shown


def test_the_same_seed_gives_the_same_numbers(dmz, run):
    command = ("probe", "--json", "--heads", "mlp,knn", "--no-baselines")
    one, two = dmz(*command).json, dmz(*command).json
    assert one == two
    assert dmz(*command, "--seed", 1).json["scores"] != one["scores"]


def test_transfer_to_another_table_of_the_run(dmz, run):
    assert dmz("encode", "--run", run.path, "--mode", "sample", "--out", "drawn.h5", "--quiet").code == 0
    facts = dmz("probe", run.bits, *QUICK, "--test-on", "drawn.h5", "--json").json
    own = dmz("probe", run.bits, *QUICK, "--json").json
    assert facts["tested_on"] == "drawn.h5" and facts["rows"] == own["rows"]
    bits, probs = facts["scores"]
    # The drawn table has the same probabilities, and other bits; what was fitted and chosen is the same.
    assert probs["test"] == own["scores"][1]["test"] and bits["test"] != own["scores"][0]["test"]
    assert bits["valid"] == own["scores"][0]["valid"]
    kept = json.loads((run.path / "evaluation" / "probe-bits.json").read_text())
    assert "tested_on" not in kept  # a transfer is no probe of the run's table
    error, hint = dmz("probe", run.bits, "--representations", "pixels", "--test-on", "drawn.h5").mistake()
    assert "'pixels' cannot be made" in error and hint
    table = BitTable.read("drawn.h5")
    dataclasses.replace(table, model="1" * 64).write("foreign.h5")
    error, hint = dmz("probe", run.bits, *QUICK, "--test-on", "foreign.h5").mistake()
    assert "different models" in error and "dmz encode" in hint


def test_attributes_alone_and_factors(dmz, run):
    """A table with two factors and no class: attributes are probed, and DCI and TAD are told."""
    table = BitTable.read(run.bits)
    marks = np.stack([table.labels % 2, table.labels // 5, np.ones_like(table.labels)], axis=1)
    attributes = dataclasses.replace(
        table,
        labels=None,
        label_names=(),
        attributes=marks.astype(np.uint8),
        attribute_names=("odd", "large", "digit"),
    )
    attributes.write(run.bits)
    made = dmz("probe", *QUICK, "--disentanglement", "--json")
    assert made.json["left_out"] == ["digit"] and "left out, being constant in a split: digit" in made.err
    assert [s["target"] for s in made.json["scores"]] == ["attributes"] * 2 and made.json["probes"] == []
    assert {*made.json["scores"][0]["details"]["auroc"]} == {"odd", "large"}
    dci = made.json["disentanglement"][0]["dci"]
    assert 0 <= dci["disentanglement"] <= 1 and {*dci["accuracy"]} == {"odd", "large"}
    assert {*made.json["disentanglement"][0]["tad"]["auroc"]} == {"odd", "large"}
    assert dmz("report", run.path).code == 0  # which has no classes to show
    shown = dmz("probe", *QUICK, "--disentanglement").out
    assert "average precision" in shown and "TAD" in shown


def test_fewer_rows_than_bits_are_told(dmz, run):
    table = BitTable.read(run.bits)
    few = np.concatenate([table.rows("train")[:7], table.rows("valid"), table.rows("test")])
    columns = {name: getattr(table, name)[few] for name in ("bits", "split", "index", "labels", "probs")}
    dataclasses.replace(table, **columns).write("few.h5")
    assert "has 7 training rows, fewer than its 8 bits" in dmz("probe", "few.h5", *QUICK).err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--budgets", "0"), "--budgets holds '0', which is no percentage above 0 and up to 100"),
        (("--budgets", "10,many"), "--budgets holds 'many'"),
        (("--budgets", ","), "--budgets is empty"),
        (("--budgets", "nan"), "--budgets holds 'nan'"),
        (("--heads", "logistc"), "unknown head 'logistc'"),
        (("--heads", ","), "--heads is empty"),
        (("--representations", "bit"), "unknown representation 'bit'"),
        (("--representations", ","), "--representations is empty"),
        (("--targets", "label"), "unknown target 'label'"),
        (("--targets", "attributes"), "the bit table has no attributes"),
        (("--retrieval", "split"), "unknown retrieval protocol 'split'"),
        (("--protocol", "papers"), "unknown --protocol 'papers'"),
        (("--disentanglement",), "disentanglement needs two factors that vary, and the bit table has 1"),
        (("--retrieval", "splits", "--test-on", "x.h5"), "--test-on tests probes alone on another table"),
        (("--test-on", "x.h5"), "x.h5 does not exist"),
    ],
)
def test_mistakes(dmz, run, options, says):
    error, hint = dmz("probe", "--no-baselines", *options).mistake()
    assert says in error and hint
