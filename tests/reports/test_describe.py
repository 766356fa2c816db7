"""``dmz info``: each thing of ours is told for what it is, and nothing else is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dmzcli.errors import UserError
from dmzcli.model.autoencoder import build
from dmzcli.reports.describe import describe, lines


def test_a_run(run, tiny):
    facts = describe(run.path)
    assert (facts["what"], facts["dataset"], facts["images"]) == ("run", "digits", "8x8x1")
    assert (facts["step"], facts["steps"], facts["bits"], facts["latent"]) == (12, 12, 8, "bernoulli")
    assert facts["parameters"] == sum(p.numel() for p in build(tiny()).parameters())
    assert facts["loss"] == run.read_metrics()[-1]["loss"]
    assert facts["priors"] == ["bernoulli", "empirical", "uniform"] and facts["samples"] == []
    assert facts["config"] == tiny().model_dump(mode="json")


def test_a_run_that_has_just_begun(run):
    for name in ("model.safetensors", "metrics.jsonl", "bits.h5"):
        (run.path / name).unlink()
    facts = describe(run.path)
    assert facts["what"] == "run" and "step" not in facts and facts["bit_table"] is None


def test_a_table(run):
    facts = describe(run.bits)
    assert (facts["what"], facts["rows"], facts["dim"]) == ("bit table", 1797, 8)
    assert facts["splits"] == {"train": 1197, "valid": 200, "test": 400}
    assert facts["labels"] == list("0123456789") and facts["model"] == run.weights_hash
    assert 0 <= facts["mean_bit"] <= 1 and facts["mode"] == "mode"


def test_a_table_by_any_name(run):
    Path("codes").write_bytes(run.bits.read_bytes())
    assert describe(Path("codes"))["what"] == "bit table"


def test_an_empty_table(run):
    import dataclasses

    from dmzcli.codes.table import BitTable

    table = BitTable.read(run.bits)
    none = {name: getattr(table, name)[:0] for name in ("bits", "split", "index", "labels", "probs")}
    dataclasses.replace(table, **none).write("t.h5")
    json.dumps(describe(Path("t.h5")), allow_nan=False)


def test_a_prior(run):
    facts = describe(run.priors / "bernoulli")
    assert (facts["what"], facts["kind"], facts["dim"], facts["exact"]) == ("prior", "bernoulli", 8, True)
    assert facts["report"]["n_train"] == 1197 and facts["metadata"]["model"] == run.weights_hash


def test_unfinished_samples(run):
    Path("out").mkdir()
    Path("out/plan.json").write_text(json.dumps({"count": 3}))
    assert describe(Path("out")) == {"what": "samples", "path": "out", "finished": False, "count": 3}


def test_everything_is_json(run):
    for path in (run.path, run.bits, run.weights, run.priors / "uniform"):
        json.dumps(describe(path), allow_nan=False)


def test_everything_is_told_to_people(run):
    for path in (run.path, run.bits, run.weights, run.priors / "uniform"):
        facts = describe(path)
        text = lines(facts)
        assert text.startswith(f"what: {facts['what']}\n")
        assert all(f"{name}:" in text for name in facts)


def test_lines_of_nested_facts():
    assert (
        lines({"a": 1, "b": {"c": [1, 2], "d": 0.123456}, "e": {}, "f": None, "g": [], "h": ""})
        == "a: 1\nb:\n  c: 1, 2\n  d: 0.1235\ne: none\nf: none\ng: none\nh: none"
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".h5", ".json", ".png", ""])
def test_foreign_files(suffix):
    path = Path(f"thing{suffix}")
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=rf"^thing{suffix} is "):
        describe(path)


def test_tensors_of_someone_elses():
    for metadata in (None, {"format": "pt"}, {"dmz": "no json"}, {"dmz": "{}"}, {"dmz": "[]"}):
        save_file({"a": torch.zeros(2)}, "model.safetensors", metadata)
        with pytest.raises(UserError, match=r"^model\.safetensors holds tensors, but no weights of dmz$"):
            describe(Path("model.safetensors"))


def test_npz_is_no_thing_of_ours():
    np.savez("samples.npz", images=np.zeros(3))
    with pytest.raises(UserError, match=r"^samples\.npz is no file of dmz$") as error:
        describe(Path("samples.npz"))
    assert "dmz info takes a run directory" in error.value.hint
