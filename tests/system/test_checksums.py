"""A flipped bit is refused by the file's name; what has no checksums is read, and told."""

import random
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from dmzcli.codes.table import BitTable
from dmzcli.data import load, packs
from dmzcli.errors import Unchecked, UserError
from dmzcli.runs import Run
from dmzcli.system.files import load_signed, load_tensors, save_tensors, sha256

SAVED = Path(__file__).parent.parent / "saved"
READERS = {
    "t.h5": BitTable.read,
    "pack.h5": packs.read,
    "w.safetensors": load_tensors,
    "signed.safetensors": load_signed,
}


@pytest.fixture
def files(few):
    """A table, a pack and two files of tensors."""
    chance = np.random.default_rng(0)
    BitTable(
        bits=chance.integers(0, 2, (100, 12), dtype=np.uint8),
        split=chance.integers(0, 3, 100).astype(np.uint8),
        index=np.arange(100),
        family="bernoulli",
        cardinalities=np.full(12, 2),
        dataset="digits",
        model="m",
        created="2026-01-01T00:00:00+00:00",
        probs=chance.random((100, 12)).astype(np.float16),
    ).write("t.h5")
    packs.write(Path("pack.h5"), few)
    tensors = {"a.b": torch.randn(30, 7), "c": torch.arange(5), "d": torch.tensor(3.0).bfloat16()}
    for name in ("w.safetensors", "signed.safetensors"):
        save_tensors(name, tensors, {"dmz": '{"step": 12}'})


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_refused_by_name(files, name):
    """Anywhere in the file: the seal, or the header and its digests, cover all of it."""
    whole, chance = Path(name).read_bytes(), random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        READERS[name](Path(name))
        for _ in range(200):
            place, bit = chance.randrange(len(whole)), chance.randrange(8)
            if name.endswith(".h5") and place >= len(whole) - 42:
                continue  # in the seal's own mark, where what it seals is whole
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            Path(name).write_bytes(damaged)
            with pytest.raises(UserError) as caught:
                READERS[name](Path(name))
            assert name in caught.value.message and caught.value.hint


def test_the_tensor_that_differs_is_named(files):
    content = bytearray(Path("w.safetensors").read_bytes())
    content[-1] ^= 1  # the narrowest lies last
    Path("w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"^w\.safetensors is altered: the SHA-256 of d differs from what"):
        load_tensors("w.safetensors")


@pytest.mark.parametrize("column", ["bits", "probs", "split", "index"])
def test_the_column_that_differs_is_named_where_the_file_was_edited(files, column):
    with h5py.File("t.h5", "r+") as stream:
        stream["note"] = np.zeros(3)
    assert len(BitTable.read("t.h5").bits) == 100  # what others add is left alone
    with h5py.File("t.h5", "r+") as stream:
        values = stream[column][()]
        values.view(np.uint8)[0] ^= 1
        stream[column][...] = values
    with pytest.raises(UserError, match=rf"^t\.h5 is altered: the SHA-256 of /{column} differs"):
        BitTable.read("t.h5")


def test_files_of_earlier_versions_are_read_and_told(dmz):
    shutil.copytree(SAVED / "run", "old")
    for read, name in ((BitTable.read, "old/bits.h5"), (load_tensors, "old/model.safetensors")):
        with pytest.warns(Unchecked, match=rf"^{name} carries no checksums"):
            read(name)
    ended = dmz("fit-prior", "--run", "old", "--kind", "bernoulli")
    assert ended.code == 0
    assert "note: old/bits.h5 carries no checksums" in ended.err
    assert "note" not in dmz("fit-prior", "--run", "old", "--kind", "bernoulli", "--quiet").err


# Signatures are of the bytes that were read ---------------------------------------------------------------------


def other_weights(run):
    """Replaces a run's weights, as a training next door does."""
    tensors, metadata = load_tensors(run.weights)
    save_tensors(
        run.weights, {k: v + 1 if v.is_floating_point() else v for k, v in tensors.items()}, metadata
    )


def test_a_run_signs_with_the_weights_that_it_loaded(run):
    before = sha256(run.weights)
    run.load_model(torch.device("cpu"))
    other_weights(run)
    assert run.weights_hash == before != Run(run.path).weights_hash
    run.load_model(torch.device("cpu"))
    assert run.weights_hash == sha256(run.weights) != before


@pytest.mark.parametrize("command", ["encode", "reconstruct", "sample"])
def test_training_beside_a_command_changes_no_signature(command, run, dmz, monkeypatch):
    """The weights are replaced as soon as they are loaded."""
    inner, before = Run.load_model, sha256(run.weights)

    def load_model(self, device):
        model = inner(self, device)
        other_weights(self)
        return model

    monkeypatch.setattr(Run, "load_model", load_model)
    if command == "encode":
        assert dmz("encode", "--out", "t.h5", "--device", "cpu").code == 0
        assert BitTable.read("t.h5").model == before
    elif command == "sample":
        ended = dmz("sample", "bernoulli", "-n", 2, "--steps", 2, "--device", "cpu", "--json")
        assert ended.json["model"] == before
    else:
        ended = dmz("reconstruct", "--count", 4, "--steps", 2, "--device", "cpu", "--json")
        assert ended.json["weights"] == before
    assert sha256(run.weights) != before


def test_a_prior_is_signed_with_the_table_that_was_read(run):
    from dmzcli.codes.fit import fit

    table, before = BitTable.read(run.bits), sha256(run.bits)
    BitTable.read(run.bits).write("other.h5")
    with h5py.File("other.h5", "r+") as stream:
        stream.attrs["note"] = "another"
    Path("other.h5").replace(run.bits)
    assert table.sha256 == before != sha256(run.bits)
    assert fit(table, run.bits, "bernoulli").prior.metadata["bits_sha256"] == before


def test_draws_are_signed_with_the_prior_that_was_loaded(run, monkeypatch):
    import priors
    from dmzcli.codes import draw
    from dmzcli.codes.fit import fit

    inner = draw.load_prior
    (before,) = (sha256(file) for file in (run.priors / "bernoulli").glob("*.safetensors"))

    def load_prior(folder, run, dim, **named):
        prior = inner(folder, run, dim)
        table = BitTable.read(run.bits)
        table.bits[:100] = 1
        fit(table, run.bits, "bernoulli")
        return prior

    monkeypatch.setattr(draw, "load_prior", load_prior)
    codes = draw.draw_bits(run, 8, "bernoulli", 4, 0)
    assert codes.sha256 == before != priors.load(run.priors / "bernoulli").sha256


def test_a_pack_that_is_replaced_while_it_is_open_stays_as_it_was(few):
    packs.write(Path("pack.h5"), few)
    dataset = packs.read(Path("pack.h5"))
    before = np.array(dataset.images)
    packs.write(Path("pack.h5"), load("digits"))
    assert np.array_equal(dataset.images, before)
