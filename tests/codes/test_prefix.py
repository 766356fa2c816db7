"""The first bits alone: tables, priors, samples, probes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import priors
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.model.latents import ABSENT


@pytest.fixture(scope="module")
def nested(make_run):
    return make_run("nested", model__nested=True)


@pytest.fixture
def there(nested, isolated):
    shutil.copytree(nested / "runs", "runs")
    return Path("runs/nested")


def test_a_table_of_the_first_bits(there):
    table = BitTable.read(there / "bits.h5")
    few = table.prefix(3)
    assert np.array_equal(few.bits, table.bits[:, :3]) and few.dim == 3 and few.groups == (1, 1, 1)
    assert np.array_equal(few.probs, table.probs[:, :3])
    for wrong in (0, 9):
        with pytest.raises(UserError, match=f"--prefix {wrong} is not from 1 to the table's 8 bits"):
            table.prefix(wrong)


def test_a_variable_is_not_cut(there):
    from dataclasses import replace

    table = replace(BitTable.read(there / "bits.h5"), cardinalities=np.array([4, 16, 4]))
    assert table.prefix(6).cardinalities.tolist() == [4, 16]
    with pytest.raises(UserError, match="--prefix 3 cuts a variable of 4 bits"):
        table.prefix(3)


def test_a_prior_of_the_first_bits_is_fitted_sampled_and_named(dmz, there):
    facts = dmz("fit-prior", "--kind", "mixture", "--prefix", "4", "--set", "components=2", "--json").json
    folder = there / "priors" / "mixture-prefix-4"
    assert facts["prior"] == str(folder) and priors.load(folder).dim == 4
    assert priors.load(folder).metadata["prefix"] == 4
    again = dmz("fit-prior", "--kind", "mixture", "--prefix", "4", "--set", "components=2", "--json").json
    assert again["reused"]
    made = dmz("sample", "mixture-prefix-4", "-n", "3", "--steps", "2", "--json").json
    assert made["prior"] == "mixture-prefix-4"
    archive = np.load(Path(made["samples"]) / "samples.npz")
    present = np.unpackbits(archive["present"], axis=1)
    assert np.array_equal(present, [[1, 1, 1, 1, 0, 0, 0, 0]] * 3)


def test_the_first_bits_of_a_prior_of_all(dmz, there):
    from dmzcli.codes.draw import draw_bits
    from dmzcli.runs import Run

    whole = draw_bits(Run(there), 8, "bernoulli", 5, 0)
    few = draw_bits(Run(there), 8, "bernoulli", 5, 0, prefix=3)
    assert np.array_equal(few.bits[:, :3], whole.bits[:, :3]) and (few.bits[:, 3:] == ABSENT).all()
    assert few.name == "bernoulli-prefix-3" and few.sha256 != whole.sha256
    made = [
        dmz("sample", "bernoulli", "-n", "3", "--steps", "2", "--json", *more).json["samples"]
        for more in ((), ("--prefix", "3"))
    ]
    archives = [np.load(Path(folder) / "samples.npz") for folder in made]
    assert "present" not in archives[0] and np.unpackbits(archives[1]["present"]).sum() == 3 * 3


def test_prefixes_that_cannot_be(dmz, there):
    dmz("fit-prior", "--kind", "bernoulli", "--prefix", "2")
    error, _ = dmz("sample", "bernoulli-prefix-2", "--prefix", "3").mistake()
    assert "draws 2 bits, fewer than --prefix 3" in error
    error, _ = dmz("sample", "bernoulli", "--prefix", "9").mistake()
    assert "--prefix 9 is not from 1 to the model's 8 bits" in error
    error, _ = dmz("likelihood", "--prior", "bernoulli-prefix-2", "-n", "2").mistake()
    assert "is a prior of 2 bits" in error


def test_the_newest_prior_is_one_of_all_bits(dmz, there):
    dmz("fit-prior", "--kind", "bernoulli", "--prefix", "2")
    assert dmz("sample", "-n", "2", "--steps", "2", "--json").json["prior"] == "bernoulli"


def test_a_guided_folder_is_not_that_of_other_samples(dmz, there):
    dmz("sample", "bernoulli", "-n", "2", "--steps", "2", "--guidance", "2", "--out", "x")
    error, _ = dmz("sample", "bernoulli", "-n", "2", "--steps", "2", "--out", "x").mistake()
    assert "x holds other samples: guidance is 2.0 there, 1.0 here" in error


def test_a_run_whose_bits_are_not_nested_refuses_a_prefix(dmz, workshop):
    error, _ = dmz("fit-prior", "--kind", "bernoulli", "--prefix", "3").mistake()
    assert "--prefix needs a model whose bits are nested" in error
    error, _ = dmz("sample", "bernoulli", "--prefix", "3").mistake()
    assert "--prefix needs a model whose bits are nested" in error


def test_a_probe_of_the_first_bits(dmz, there):
    facts = dmz(
        "probe", "--prefix", "4", "--heads", "logistic", "--representations", "bits,untrained,pca", "--json"
    ).json
    widths = {row["representation"]: row["features"] for row in facts["scores"]}
    assert set(widths.values()) == {4} and len(widths) == 3
    assert (there / "evaluation" / "probe-bits-prefix-4.json").exists()


def test_the_library_takes_and_gives_partial_codes(there):
    from dmzcli.library import Model

    model = Model(there, "cpu")
    bits = np.full((2, 8), ABSENT, np.uint8)
    assert model.decode(bits, sampler="ddim", steps=2).shape == (2, 8, 8, 1)
    assert model.sample("bernoulli", n=2, prefix=3, steps=2).shape == (2, 8, 8, 1)
    with pytest.raises(UserError, match="2: absent"):
        model.decode(bits + 1)


def test_the_library_refuses_absent_bits_of_other_models(run):
    from dmzcli.library import Model

    with pytest.raises(UserError, match="holds the value 2"):
        Model(run.path, "cpu").decode(np.full((1, 8), ABSENT, np.uint8))


def test_a_sweep_takes_the_plain_model_from_the_same_run(dmz, there, tiny_extractor):
    facts = dmz(
        "sweep-steps", "--features", "tiny", "-n", "24", "--device", "cpu", "--steps", "2", "--samplers", "ddim",
        "--bits", "plain,encoded", "--guidance", "2", "--json",
    ).json  # fmt: skip
    assert {cell["source"] for cell in facts["cells"]} == {"plain", "encoded"}
    assert Path(facts["sweep"]).parent == there / "sweeps" / "steps-w2"
