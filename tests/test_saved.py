"""Files that earlier versions wrote keep working: a run, its table, priors and samples, and an image pack.

``tests/saved`` was written by commit 67c146e: twenty steps on digits, a model of some thousand parameters.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmzcli import data
from dmzcli.runs import Run
from dmzcli.system.files import load_tensors

SAVED = Path(__file__).parent / "saved"
SAMPLES = "bernoulli-ddim-3-n3-seed0-dad5de"


@pytest.fixture
def old():
    """A copy of the old run, which may be changed."""
    shutil.copytree(SAVED / "run", "old")
    return Run(Path("old"))


def test_the_weights_make_the_bits_that_they_made(old, dmz):
    made = dmz("encode", "--run", "old", "--out", "new.h5", "--device", "cpu", "--json")
    assert made.code == 0, made.err
    from dmzcli.codes.table import BitTable

    before, now = BitTable.read(old.bits), BitTable.read(Path("new.h5"))
    assert before.model == now.model == old.weights_hash
    assert before.dataset == now.dataset
    # Another processor rounds otherwise; a probability next to one half may then fall on the other side.
    assert (before.bits != now.bits).mean() < 0.002
    assert np.array_equal(before.split, now.split) and np.array_equal(before.labels, now.labels)


@pytest.mark.parametrize("prior", ["bernoulli", "chow-liu-given-labels"])
def test_the_priors_give_samples(old, dmz, prior):
    made = dmz("sample", prior, "--run", "old", "--count", 4, "--steps", 2, "--device", "cpu", "--json")
    assert made.code == 0, made.err
    assert made.json["prior"] == prior


def test_samples_go_on_in_their_folder(old, dmz):
    folder = old.samples / SAMPLES
    first = np.load(folder / "samples.npz")["images"]
    made = dmz(
        *("sample", "bernoulli", "--run", "old", "--count", 5, "--steps", 3, "--sampler", "ddim"),
        *("--out", folder, "--device", "cpu"),
    )
    assert made.code == 0, made.err
    both = np.load(folder / "samples.npz")["images"]
    assert len(both) == 5 and np.array_equal(both[:3], first)
    anew = dmz(
        *("sample", "bernoulli", "--run", "old", "--count", 3, "--steps", 3, "--sampler", "ddim"),
        *("--out", "anew", "--device", "cpu"),
    )
    assert anew.code == 0, anew.err
    again = np.load("anew/samples.npz")["images"]
    # The same noise and bits; rounding may move a value across the border between two grey levels.
    assert np.abs(again.astype(int) - first).max() <= 1
    assert np.array_equal(np.asarray(Image.open("anew/images/000000.png")), again[0, ..., 0])


def test_training_goes_on_from_the_checkpoint(old):
    from dmzcli.config import Config
    from dmzcli.training import train

    longer = old.config.training.model_copy(update={"steps": 24})
    config: Config = old.config.model_copy(update={"training": longer})
    outcome = train(config, data.load("digits"), old, "cpu")
    assert outcome.step == 24 and outcome.finished
    assert [row["step"] for row in old.read_metrics()] == [10, 20, 24]
    old.load_model(torch.device("cpu"))


@pytest.mark.parametrize(
    "path", [".", "bits.h5", "priors/bernoulli", f"samples/{SAMPLES}", "model.safetensors"]
)
def test_info_tells_what_each_is(old, dmz, path):
    told = dmz("info", old.path / path, "--json")
    assert told.code == 0, told.err


def test_the_pack_is_a_dataset():
    images = data.load(str(SAVED / "pack.h5"))
    assert images.images.shape == (12, 8, 8, 1)
    assert images.labels is not None and images.labels.tolist() == [*range(10), 0, 1]


def test_the_names_of_runs_stay():
    """A digest names runs of other settings than the preset's: the same settings must find the same folder."""
    old = Run(SAVED / "run")
    assert old.config.digest() == json.loads((SAVED / "digest.json").read_text())


def test_training_again_leaves_the_old_weights(old):
    """Its statistics of batch norm are those of its last steps, as they were when it was trained."""
    from dmzcli.training import train

    before, facts = load_tensors(old.weights)
    train(old.config, data.load("digits"), old, "cpu")
    after, facts_after = load_tensors(old.weights)  # the file itself has checksums now
    assert facts == facts_after and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
