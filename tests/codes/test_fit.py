"""Priors of tables: fitted to train, chosen on valid, kept with what they are of."""

import dataclasses
import json
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import priors
from dmzcli import __version__
from dmzcli.codes.find import find_prior, load_prior, priors_folder
from dmzcli.codes.fit import fit, kinds, listing
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.system.files import sha256
from dmzcli.system.interrupts import Interrupted
from dmzcli.system.progress import Silence

QUICK = [kind for kind in priors.available() if priors.describe(kind)["automatic"]] + ["empirical"]


@pytest.fixture
def table(run):
    return BitTable.read(run.bits)


@pytest.mark.parametrize("kind", QUICK)
def test_every_quick_kind_is_fitted_saved_and_found(table, run, kind):
    fitted = fit(table, run.bits, kind)
    assert fitted.folder == run.priors / kind and fitted.prior.kind == kind and not fitted.compared
    loaded = load_prior(find_prior(run, kind), run, 8)
    assert np.array_equal(loaded.sample(5, seed=1), fitted.prior.sample(5, seed=1))
    assert loaded.metadata == {
        "dmz": __version__,
        "model": run.weights_hash,
        "dataset": table.dataset,
        "given": None,
        "bits": str(run.bits),
        "bits_sha256": sha256(run.bits),
    }
    assert not [file for file in run.priors.iterdir() if file.name.startswith(".")]  # no checkpoint is left


class SignalAt(Silence):
    """Raises a signal once so much is done, and notes where the progress began."""

    def __init__(self, number, share):
        self.number, self.share, self.first = number, share, None

    @contextmanager
    def task(self, description, total, done=0, until=None):
        def advance(done, message):
            if done and self.first is None:
                self.first = done / total
            if self.number and done >= self.share * total:
                signal.raise_signal(self.number)

        yield advance


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mixture", ["components=4", "restarts=4"]),
        ("autoregressive", ["members=2", "hidden=16", "channels=4", "epochs=20"]),
    ],
)
def test_a_signal_leaves_a_checkpoint_that_the_next_fit_continues(table, run, kind, settings, number):
    with pytest.raises(Interrupted, match="run the same command to go on") as caught:
        fit(table, run.bits, kind, settings, talk=SignalAt(number, 0.6))
    assert caught.value.number == number and (run.priors / f".{kind}.fit").is_dir()
    watch = SignalAt(None, 0)
    again = fit(table, run.bits, kind, settings, talk=watch).prior
    assert watch.first > 0.2 and not (run.priors / f".{kind}.fit").exists()
    whole = fit(table, run.bits, kind, settings, out=Path("whole")).prior
    assert np.array_equal(again.log_prob(table.bits), whole.log_prob(table.bits))


def test_fitted_to_train_and_measured_on_valid(table, run):
    """Test rows change nothing; valid rows only the choice and its measure."""
    test = table.rows("test")
    changed = table.bits.copy()
    changed[test] = 1 - changed[test]
    other = dataclasses.replace(table, bits=changed)
    one, two = (
        fit(t, run.bits, "bernoulli", out=Path(name)).prior for t, name in ((table, "a"), (other, "b"))
    )
    codes = table.bits[:50]
    assert np.array_equal(one.log_prob(codes), two.log_prob(codes))
    assert (one.report.n_train, one.report.n_valid, one.report.valid_from) == (1197, 200, "given")
    assert one.report.valid_nats == pytest.approx(one.log_prob(table.bits[table.rows("valid")]).mean())


def test_auto_takes_the_best_held_out_likelihood(table, run):
    fitted = fit(table, run.bits, "auto")
    assert set(fitted.compared) == set(priors.automatic())
    assert fitted.prior.kind == min(fitted.compared, key=fitted.compared.get)
    assert fitted.folder == run.priors / fitted.prior.kind


def test_a_table_whose_run_is_gone_keeps_its_priors_beside_it(table, run):
    shutil.copy(run.bits, "mine.h5")
    assert priors_folder(table, Path("mine.h5")) == run.priors
    shutil.copytree("runs", "elsewhere")
    assert priors_folder(table, Path("mine.h5"), Path("elsewhere/tiny")) == Path("elsewhere/tiny/priors")
    shutil.rmtree("runs")
    assert priors_folder(table, Path("mine.h5")) == Path("mine-priors")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"kind": "bernouli"}, "unknown kind 'bernouli'"),
        (
            {"kind": "auto", "settings": ["smothing=1"]},
            "none of the kinds compared has the option 'smothing'",
        ),
        ({"kind": "bernoulli", "given": "label"}, "unknown --given 'label'"),
        ({"kind": "bernoulli", "settings": ["smoothing"]}, "--set smoothing has no '='"),
    ],
)
def test_wrong_arguments(table, run, arguments, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        fit(table, run.bits, **arguments)


def test_wrong_options(table, run):
    with pytest.raises(priors.PriorError, match="smothing"):
        fit(table, run.bits, "bernoulli", ["smothing=1"])


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_training_rows(table, run, count):
    split = np.full(len(table.bits), 2, np.uint8)
    split[:count] = 0
    with pytest.raises(UserError, match=rf"^runs/tiny/bits\.h5 has {count} training rows$"):
        fit(dataclasses.replace(table, split=split), run.bits, "bernoulli")


def test_no_valid_rows_hold_out_a_part_of_train(table, run):
    split = np.where(table.split == 1, 2, table.split).astype(np.uint8)
    report = fit(dataclasses.replace(table, split=split), run.bits, "bernoulli").prior.report
    assert report.valid_from == "held out" and report.n_train + report.n_valid == 1197


def test_settings_reach_the_kinds_of_auto_that_have_them(table, run, dmz):
    made = dmz("fit-prior", "--set", "components=2", "--set", "minutes=0.5", "--json")
    assert made.code == 0, made.err
    assert set(made.json["compared"]) == set(priors.automatic())
    mixture = fit(table, run.bits, "mixture", ["components=2", "minutes=0.5"], out=Path("two")).prior
    assert made.json["compared"]["mixture"] == mixture.report.valid_bits_per_code


def test_work_that_is_done_is_taken_as_it_is(dmz, run, table):
    """Of the same table, kind, options and seed; and auto remembers what it chose."""
    for options in (("--kind", "chow-liu"), ("--kind", "chow-liu", "--given", "labels"), ()):
        first = dmz("fit-prior", *options, "--json")
        assert first.code == 0, first.err
        card = Path(first.json["prior"]) / "prior.json"
        before = card.stat().st_mtime_ns
        again = dmz("fit-prior", *options, "--json")
        assert again.json["reused"] and not first.json["reused"], options
        assert f"{card.parent} was fitted in this way before: taken as it is" in again.err
        assert card.stat().st_mtime_ns == before
        assert {**again.json, "reused": False} == first.json
    for options in (("--seed", "1"), ("--set", "smoothing=2")):
        assert not dmz("fit-prior", "--kind", "chow-liu", *options, "--json").json["reused"]
    dataclasses.replace(table, bits=1 - table.bits).write(run.bits)
    assert not dmz("fit-prior", "--kind", "chow-liu", "--set", "smoothing=2", "--json").json["reused"]


# Finding and loading ------------------------------------------------------------------------------------------


def test_priors_by_kind_folder_and_age(run):
    import os

    assert find_prior(run, "uniform") == run.priors / "uniform"
    assert find_prior(run, str(run.priors / "uniform")) == run.priors / "uniform"
    for kind in ("bernoulli", "uniform", "empirical"):
        os.utime(run.priors / kind / "prior.json")
        assert find_prior(run, None) == run.priors / kind


def test_priors_that_are_not_there(run):
    with pytest.raises(UserError, match=r"^runs/tiny has no prior 'mixture'$") as error:
        find_prior(run, "mixture")
    there = "runs/tiny has bernoulli, empirical, uniform"
    assert error.value.hint == f"{there}; fit it with dmz fit-prior --run runs/tiny --kind mixture"
    with pytest.raises(UserError, match=r"^there is no prior 'mixtur'$") as error:
        find_prior(run, "mixtur")  # a kind that was not fitted is no help
    assert error.value.hint == f"{there}, or name a prior's folder"
    with pytest.raises(UserError, match=r"^there is no prior 'empiricl'$") as error:
        find_prior(run, "empiricl")
    assert error.value.hint == f"{there}, or name a prior's folder; did you mean 'empirical'?"
    shutil.rmtree(run.priors)
    with pytest.raises(UserError, match=r"^runs/tiny has no prior$"):
        find_prior(run, None)


def test_priors_of_another_model_or_dimension(run):
    with pytest.raises(UserError, match=r"is a prior of 8 bits, the model of runs/tiny has 9$"):
        load_prior(run.priors / "uniform", run, 9)
    record = json.loads((run.priors / "uniform" / "prior.json").read_text())
    record["metadata"]["model"] = "0" * 64
    (run.priors / "uniform" / "prior.json").write_text(json.dumps(record))
    with pytest.raises(
        UserError, match=r"was fitted to the bits of another model than runs/tiny/model\.safetensors$"
    ):
        load_prior(run.priors / "uniform", run, 8)


def test_a_prior_made_by_hand_may_be_used(run):
    """Without a note of its model, its dimension has to do."""
    prior = priors.create("uniform", dim=8)
    prior.fit(np.zeros((4, 8), np.uint8))
    prior.save("mine")
    assert load_prior(Path("mine"), Run(run.path), 8).kind == "uniform"


def test_the_listing_names_every_kind_and_option():
    text = listing()
    for kind, facts in kinds().items():
        assert f"{kind}: {facts['summary']}" in text
        assert all(f"    {name} = " in text for name in facts["options"])
