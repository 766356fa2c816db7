"""What priors are given: classes, or the bits of the same images in another table."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dmzcli.codes.fit import fit
from dmzcli.codes.given import given_draws, given_rows, one_hot_labels
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.runs import Run


@pytest.fixture
def run(workshop):
    return Run(workshop / "runs/tiny")


@pytest.fixture
def table(run):
    return BitTable.read(run.bits)


@pytest.fixture
def other(table):
    """The table of another model, which has the same bits and two more, in another order."""
    bits = np.hstack([table.bits[:, ::-1], table.bits[:, :2]])
    made = dataclasses.replace(
        table, bits=bits, probs=None, cardinalities=np.full(bits.shape[1], 2), model="1" * 64
    )
    made.write(Path("other.h5"))
    return made


def test_labels_one_hot(table):
    made = one_hot_labels(table)
    assert made.dtype == np.uint8 and (made.sum(1) == 1).all()
    assert np.array_equal(made.argmax(1), table.labels)


def test_classes_come_in_turn(table, run):
    fitted = fit(table, run.bits, "bernoulli", given="labels")
    assert fitted.prior.given_dim == 10
    drawn = given_draws(fitted.prior, 25)
    assert drawn.bits.shape == (25, 10) and drawn.bits.argmax(1).tolist() == [i % 10 for i in range(25)]
    assert drawn.labels.tolist() == drawn.bits.argmax(1).tolist() and drawn.label_names == table.label_names
    assert drawn.digest == "" and drawn.facts["images_per_label"] == {
        str(i): 3 if i < 5 else 2 for i in range(10)
    }
    assert given_draws(fit(table, run.bits, "bernoulli").prior, 25).bits is None


def test_classes_are_chosen_by_name_or_number(table, run):
    named = dataclasses.replace(table, label_names=(*"abcdefgh", "0", "zero"))
    prior = fit(named, run.bits, "bernoulli", given="labels").prior
    assert given_draws(prior, 5, classes=["c", "9"]).labels.tolist() == [2, 9, 2, 9, 2]
    assert given_draws(prior, 1, classes=["0"]).labels.tolist() == [8]  # a name comes before a number
    assert given_draws(prior, 1, classes=["c", "9"]).chosen == ("c", "zero")
    with pytest.raises(UserError, match=r"^there is no class 'zer'$") as error:
        given_draws(prior, 1, classes=["zer"])
    assert error.value.hint == "did you mean 'zero'?"
    with pytest.raises(UserError, match=r"^there is no class '10'$"):
        given_draws(prior, 1, classes=["10"])
    with pytest.raises(UserError, match=r"^this prior is given nothing, not classes$"):
        given_draws(fit(table, run.bits, "bernoulli").prior, 1, classes=["1"])


def test_a_prior_from_before_class_names_takes_its_tables(table, run):
    dataclasses.replace(table, label_names=tuple("abcdefghij")).write(run.bits)
    prior = fit(BitTable.read(run.bits), run.bits, "bernoulli", given="labels").prior
    del prior.metadata["label_names"]
    assert given_draws(prior, 2).label_names == tuple("abcdefghij")
    table.write(run.bits)  # another table now
    assert given_draws(prior, 2).label_names == tuple("0123456789")


def test_bits_given_bits_that_tell_all(table, other, run):
    """The other table holds the same bits: given it, hardly anything is left to code."""
    alone = fit(table, run.bits, "bernoulli").prior.report.valid_bits_per_code
    fitted = fit(table, run.bits, "bernoulli", given="other.h5").prior
    assert fitted.given_dim == 10 and fitted.report.valid_bits_per_code < 0.3 * alone
    assert fitted.metadata["given"] == str(Path("other.h5").absolute())  # to be found from elsewhere
    assert fitted.metadata["given_model"] == "1" * 64
    assert (run.priors / "bernoulli-given-other").is_dir() and (run.priors / "bernoulli").is_dir()


def test_draws_are_given_the_test_images_in_turn(table, other, run):
    prior = fit(table, run.bits, "bernoulli", given="other.h5").prior
    test = other.bits[other.rows("test")]
    few, many = given_draws(prior, 3), given_draws(prior, len(test) + 2)
    assert np.array_equal(few.bits, test[:3]) and few.digest == many.digest != ""
    assert np.array_equal(many.bits, np.vstack([test, test[:2]]))
    rows = other.rows("test")
    assert many.sources.tolist() == [*rows, *rows[:2]] and many.source_names is None
    # A table of another split.
    dataclasses.replace(other, split=np.zeros_like(other.split)).write("train.h5")
    taken = given_draws(prior, 3, Path("train.h5"))
    assert np.array_equal(taken.bits, other.bits[:3]) and taken.digest != few.digest


def test_samples_follow_what_they_are_given(dmz, table, other, run):
    options = ("--run", "runs/tiny", "--kind", "bernoulli", "--given", "other.h5")
    assert dmz("fit-prior", *options, "--out", "runs/tiny/priors/translate").code == 0
    made = dmz("sample", "translate", "-n", "20", "--steps", "2", "--device", "cpu", "--json")
    folder = Path(made.json["samples"])
    with np.load(folder / "samples.npz") as archive:
        bits = np.unpackbits(archive["bits"], axis=1, count=8)
        sources = archive["source_index"].tolist()
    assert sources == table.rows("test")[:20].tolist()
    assert (folder / f"images/000001-of-{sources[1]}.png").exists()
    card = json.loads((folder / "samples.json").read_text())
    assert (card["given_split"], card["given_rows"]) == ("test", len(table.rows("test")))
    wanted = table.bits[table.rows("test")][:20]
    assert (bits == wanted).mean() > 0.9
    shutil.copy("other.h5", "moved.h5")
    again = dmz(
        "sample", "translate", "-n", "24", "--steps", "2", "--device", "cpu", "--json", "--given", "moved.h5"
    )
    assert again.json["prior"] == "bernoulli-given-other" and again.json["prior"] in again.json["samples"]
    assert again.json["samples"].replace("n24", "n20") == made.json["samples"]  # by content, not by name


def test_samples_name_their_source_and_tell_of_repeats(dmz, table, run):
    names = tuple(f"bilder/{'ä' if i % 2 else 'b'}{i}.jpg" for i in range(len(table.bits)))
    split = np.where(np.arange(len(table.bits)) < 1700, 0, 1).astype(np.uint8)
    split[1795:] = 2
    named = dataclasses.replace(table, names=names, split=split)
    named.write("mine.h5")
    assert BitTable.read("mine.h5").names == names
    options = ("--run", "runs/tiny", "--kind", "bernoulli", "--given", "mine.h5")
    assert dmz("fit-prior", "mine.h5", *options, "--out", "runs/tiny/priors/again").code == 0
    sample = ("sample", "again", "--steps", "2", "--device", "cpu")
    few = dmz(*sample, "-n", "2", "--out", "two")
    assert few.code == 0 and "given one again" not in few.err
    many = dmz(*sample, "-n", "5", "--out", "five")
    assert "mine.h5 has 2 test images: 3 of the 5 samples are given one again" in many.err
    with np.load("five/samples.npz") as archive:
        assert archive["source_index"].tolist() == [1795, 1796, 1795, 1796, 1795]
        assert archive["source_names"].tolist()[:2] == ["bilder/ä1795.jpg", "bilder/b1796.jpg"]


def test_refusals(dmz, table, other, run):
    with pytest.raises(UserError, match=r"^the bit table has no labels$"):
        given_rows("labels", dataclasses.replace(table, labels=None, label_names=()))
    with pytest.raises(UserError, match=r"^unknown --given 'label'$") as error:
        given_rows("label", table)
    assert error.value.hint == "say labels, or name the file of a bit table of the same images"
    fewer = dataclasses.replace(table, bits=table.bits[1:], split=table.split[1:], index=table.index[1:])
    with pytest.raises(UserError, match=r"^other\.h5 holds the bits of other images: 1,797 of digits/"):
        given_rows("other.h5", fewer)
    strange = dataclasses.replace(table, labels=table.labels[::-1].copy())
    with pytest.raises(UserError, match=r"^other\.h5 holds the bits of other images: its labels are not"):
        given_rows("other.h5", strange)
    prior = fit(table, run.bits, "bernoulli", given="other.h5").prior
    dataclasses.replace(other, model="2" * 64).write(Path("foreign.h5"))
    with pytest.raises(UserError, match=r"^foreign\.h5 is of another model"):
        given_draws(prior, 3, Path("foreign.h5"))
    Path("other.h5").unlink()
    with pytest.raises(UserError, match=r"^the prior is given the bits of .*other\.h5, which is not there$"):
        given_draws(prior, 3)
    for given, what in (("labels", "classes"), (None, "nothing")):
        plain = fit(table, run.bits, "bernoulli", given=given).prior
        with pytest.raises(UserError, match=rf"^this prior is given {what}, not a bit table$"):
            given_draws(plain, 3, Path("foreign.h5"))
