"""What the session knows, against what its parts say; and what it leaves out, with the reason."""

import json
import shutil

import numpy as np
import pytest
import torch

from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.reports.live.session import IMAGES, Session

CPU = torch.device("cpu")


def test_encoding_is_that_of_the_table(session, digits):
    got = session.encode(digits.images[5])
    assert (got["bits"] == session.table.bits[5]).all()
    # float16 has 11 bits of precision.
    assert np.abs(got["probs"] - session.table.probs[5]).max() < 1e-3


def test_decoding_depends_on_its_arguments_alone(session):
    codes = session.table.bits[:2]
    one = session.decode(codes, [3, 4], 4, "ancestral")
    session.decode(codes, [9], 2, "ddim")
    assert (session.decode(codes, [3, 4], 4, "ancestral") == one).all()
    assert not (one[0] == one[1]).all() and one.shape == (4, 8, 8, 1)


def test_what_watches_can_end_a_decoding(session):
    seen = []

    def watch(images):
        seen.append(images)
        if len(seen) == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        session.decode(session.table.bits[:1], [0], 10, "ddim", watch)
    assert len(seen) == 2


def test_too_many_images_are_refused(session):
    with pytest.raises(UserError, match=f"{IMAGES + 1} images"):
        session.decode(session.table.bits[:1], list(range(IMAGES + 1)), 2, "ddim")


def test_the_usual_range_holds_nine_tenths_of_the_images_codes(session):
    facts = {prior["name"]: prior for prior in session.facts()["priors"]}
    bits = -session.priors["bernoulli"].log_prob(session.table.bits[session.table.rows("test")]) / np.log(2)
    low, high = facts["bernoulli"]["low"], facts["bernoulli"]["high"]
    # The range is of 256 evenly spread rows of some 360: shares differ by a few hundredths.
    assert abs(((bits >= low) & (bits <= high)).mean() - 0.9) < 0.06
    assert facts["uniform"]["low"] == facts["uniform"]["high"] == pytest.approx(8)


def test_facts_are_json(session):
    facts = json.loads(json.dumps(session.facts(), allow_nan=False))
    assert facts["dim"] == len(facts["bits"]) == 8 and facts["probes"][0]["target"] == "labels"
    assert facts["absent"] == {}


def test_without_table_and_images_the_rest_is_there(run):
    run.bits.unlink()
    shutil.rmtree(run.priors)
    bare = Session(run, CPU)
    facts = bare.facts()
    assert facts["images"] == 0 and not facts["probes"] and not facts["priors"]
    assert set(facts["absent"]) == {"neighbors and probes", "pictures of the dataset", "priors"}
    assert bare.decode(np.zeros((1, 8), np.uint8), [0], 2, "ddim").shape == (1, 8, 8, 1)
    for wrong in (lambda: bare.neighbors(np.zeros(8, np.uint8), 3), lambda: bare.row(0)):
        with pytest.raises(UserError):
            wrong()


def test_without_images_the_tables_codes_are_shown(run):
    coded = Session(run, CPU)
    got = coded.row(4)
    assert "image" not in got and (got["bits"] == coded.table.bits[4]).all()
    assert "image" not in coded.neighbors(got["bits"], 1)[0]


def test_bits_of_other_weights_are_left_out(run, digits):
    table = BitTable.read(run.bits)
    BitTable(**{**vars(table), "model": "0" * 64}).write(run.bits)
    other = Session(run, CPU, digits)
    assert other.table is None and "other weights" in other.absent["neighbors and probes"]


def test_bits_of_other_images_are_refused(run, few):
    with pytest.raises(UserError, match="the dataset is"):
        Session(run, CPU, few)


def test_what_inspect_found_is_told(run, dmz):
    assert dmz("inspect", "--run", run.path, "-n", 4, "--steps", 2, "--points", 2, "--json").code == 0
    told = Session(run, CPU).facts()["bits"]
    findings = json.loads((run.path / "inspect.json").read_text())["tests"]["findings"]
    best = max(findings, key=lambda f: f["information"] if f["adjusted"] < 0.05 else -1)
    assert f"tells {best['information']:.3f} bits of {best['factor']}" in told[best["bit"]]
    (run.path / "inspect.json").write_text(json.dumps({"model": run.weights_hash, "bits": 3}))
    with pytest.raises(UserError, match=r"inspect\.json is not what dmz inspect writes"):
        Session(run, CPU)


def test_a_plain_diffusion_model_is_refused(run, monkeypatch):
    model = run.config.model.model_copy(update={"latent": "none"})
    monkeypatch.setitem(run.__dict__, "config", run.config.model_copy(update={"model": model}))
    with pytest.raises(UserError, match="without bits"):
        Session(run, CPU)
