"""Encoding: the model's own probabilities, resumable after any kill."""

import math
import os
import random
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from dmzcli.codes import encode as encoding
from dmzcli.codes.encode import encode
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import build
from dmzcli.model.pixels import to_unit
from dmzcli.system.interrupts import Interrupted
from dmzcli.system.parts import Parts

HASH = "a" * 64
COLUMNS = ("bits", "probs", "labels", "split", "index")


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 32 rows, so that 160 images make five."""
    monkeypatch.setattr(encoding, "PART", 32)


def columns(path):
    with h5py.File(path) as stream:
        attributes = {
            k: np.asarray(v).tolist() for k, v in stream.attrs.items() if k not in ("created", "sha256")
        }
        return {name: stream[name][:].tolist() for name in stream}, attributes


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_table_holds_what_the_model_says(model, few, batch_size):
    done = encode(model, few, Path("t.h5"), HASH, batch_size=batch_size)
    table = BitTable.read("t.h5")
    with torch.no_grad():
        expected = model.probabilities(to_unit(few.images)).numpy()
    # float16 keeps 11 bits: 2^-11 relative; other batch sizes round float32 otherwise.
    np.testing.assert_allclose(table.probs.astype(np.float32), expected, rtol=2**-11, atol=1e-5)
    sure = abs(expected - 0.5) > 1e-5
    assert (table.bits == (expected > 0.5))[sure].all() and sure.mean() > 0.9
    assert np.array_equal(table.labels, few.labels) and np.array_equal(table.split, few.split)
    assert np.array_equal(table.index, np.arange(160)) and table.label_names == few.label_names
    assert (table.dataset, table.model, table.family) == (few.identity, HASH, "bernoulli")
    assert (table.facts["mode"], table.facts["seed"], bool(table.facts["lossy"])) == ("mode", 0, False)
    assert done.resumed_rows == 0 and os.listdir().count("t.h5") == 1
    assert not list(Path().glob(".*"))  # the parts are gone


def test_sampled_bits_come_from_q(model, digits):
    """Per bit, the count of ones among N rows has variance Σ p(1−p); z² over the bits is a χ²."""
    z2 = 0.0
    for seed in range(5):
        table = encode(model, digits, Path("t.h5"), HASH, mode="sample", seed=seed).table
        p = model.probabilities(to_unit(digits.images)).detach().numpy().astype(np.float64)
        z2 += ((table.bits.sum(0) - p.sum(0)) ** 2 / (p * (1 - p)).sum(0)).sum()
    # χ² of 5 · 8 = 40 degrees of freedom exceeds 73.4 with probability 0.001; the seeds are fixed.
    assert z2 < 73.4
    assert BitTable.read("t.h5").facts["mode"] == "sample"


def test_samples_are_a_function_of_the_seed(model, few):
    made = [encode(model, few, Path("t.h5"), HASH, "sample", seed).table.bits for seed in (0, 0, 1)]
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


def test_unlabelled_images_have_no_label_column(model, few):
    import dataclasses

    encode(model, dataclasses.replace(few, labels=None, label_names=()), Path("t.h5"), HASH)
    table = BitTable.read("t.h5")
    assert table.labels is None and table.label_names == ()


# Stopping and going on -------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for kill -9."""


def stop_after(monkeypatch, parts, action):
    """Acts after this many finished parts."""
    inner, done = Parts.write, []

    def write(self, number, arrays):
        inner(self, number, arrays)
        done.append(number)
        if len(done) == parts:
            action()

    monkeypatch.setattr(Parts, "write", write)


@pytest.mark.parametrize("mode", ["mode", "sample"])
@pytest.mark.parametrize("parts", [1, 3, 5])
def test_killed_after_any_part_ends_as_undisturbed(model, few, small_parts, mode, parts):
    encode(model, few, Path("whole.h5"), HASH, mode)

    def die():
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, parts, die)
        with pytest.raises(Killed):
            encode(model, few, Path("t.h5"), HASH, mode)
    assert not Path("t.h5").exists()  # never half
    done = encode(model, few, Path("t.h5"), HASH, mode)
    assert done.resumed_rows == 32 * parts
    assert columns("t.h5") == columns("whole.h5")


def test_the_old_table_stays_until_the_new_one_is_whole(model, few, small_parts):
    encode(model, few, Path("t.h5"), HASH)
    before = Path("t.h5").read_bytes()

    def die():
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2, die)
        with pytest.raises(Killed):
            encode(model, few, Path("t.h5"), HASH, "sample")
    assert Path("t.h5").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [{"weights_hash": "b" * 64}, {"mode": "sample"}, {"seed": 1}],
    ids=lambda change: next(iter(change)),
)
def test_parts_of_another_encoding_are_not_used(model, few, small_parts, change):
    def die():
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3, die)
        with pytest.raises(Killed):
            encode(model, few, Path("t.h5"), HASH)
    arguments = {"weights_hash": HASH, **change}
    assert encode(model, few, Path("t.h5"), **arguments).resumed_rows == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_keeps_the_finished_parts(model, few, small_parts, number):
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2, lambda: signal.raise_signal(number))
        with pytest.raises(Interrupted, match="run the same command to go on") as caught:
            encode(model, few, Path("t.h5"), HASH)
    assert caught.value.number == number and not Path("t.h5").exists()
    assert encode(model, few, Path("t.h5"), HASH).resumed_rows == 64


# What does not fit -------------------------------------------------------------------------------------------


def test_images_of_another_size(model, few):
    import dataclasses

    large = dataclasses.replace(few, images=np.zeros((160, 16, 16, 1), np.uint8))
    with pytest.raises(UserError, match=r"^digits has images of 16x16x1, the model takes 8x8x1$"):
        encode(model, large, Path("t.h5"), HASH)
    assert not os.listdir(".") or os.listdir(".") == ["runs"]


def test_a_model_without_bits(tiny, few):
    with pytest.raises(UserError, match=r"^a model with latent 'none' has no bits to encode$"):
        encode(build(tiny(model__latent="none")).eval(), few, Path("t.h5"), HASH)


def test_a_full_disk_at_the_table_keeps_the_parts(model, few, small_parts, monkeypatch):
    def full(table, path):
        raise UserError(f"no space left to write {path}", "free some space and run it again")

    with monkeypatch.context() as patch:
        patch.setattr(BitTable, "write", full)
        with pytest.raises(UserError, match="no space left"):
            encode(model, few, Path("t.h5"), HASH)
    assert encode(model, few, Path("t.h5"), HASH).resumed_rows == 160


# Kills of the real thing ---------------------------------------------------------------------------------------

PROGRAM = """
import sys, time
import dmzcli.codes.encode as encoding
encoding.PART = 64
from dmzcli.system.parts import Parts
inner = Parts.write
def write(self, number, arrays):
    time.sleep({pause})
    inner(self, number, arrays)
Parts.write = write
sys.argv = ["dmz", "encode", "--run", "runs/tiny", "--out", "t.h5", "--batch-size", "64", "--device", "cpu", "--json"]
from dmzcli.__main__ import main
main()
"""


def encode_with_kills(kills, pause, seed):
    import json
    import subprocess
    import sys

    chance, program = random.Random(seed), PROGRAM.format(pause=pause)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    parts, killed, resumed = Path(".t.h5.parts"), 0, 0
    for left in range(kills, -1, -1):
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if left:
            before = len(list(parts.glob("0*.json")))
            resumed += before > 0
            deadline = time.monotonic() + 120
            while process.poll() is None and len(list(parts.glob("0*.json"))) == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 2 * pause))  # anywhere in the next part or two
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
            process.communicate()
            if Path("t.h5").exists():  # a kill after the renaming leaves a table, and it is whole
                assert len(BitTable.read("t.h5").bits) == 1797
        else:
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            return killed, resumed + (json.loads(out)["resumed_rows"] > 0)


def compare(dmz, kills, pause, seed):
    encode_whole = dmz(
        "encode", "--run", "runs/tiny", "--out", "whole.h5", "--batch-size", "64", "--device", "cpu"
    )
    assert encode_whole.code == 0, encode_whole.err
    killed, resumed = encode_with_kills(kills, pause, seed)
    assert killed and resumed
    assert columns("t.h5") == columns("whole.h5")
    table = BitTable.read("t.h5")
    assert len(table.bits) == 1797 and math.isclose(table.bits.mean(), BitTable.read("whole.h5").bits.mean())


def test_two_kills_leave_a_whole_table(dmz, workshop):
    compare(dmz, kills=2, pause=0.05, seed=0)


@pytest.mark.slow
def test_twenty_kills_leave_a_whole_table(dmz, workshop):
    compare(dmz, kills=20, pause=0.15, seed=1)


def test_copies_of_a_run_encode_alike(dmz, workshop):
    shutil.copytree("runs/tiny", "elsewhere")
    for run, out in (("runs/tiny", "a.h5"), ("elsewhere", "b.h5")):
        assert dmz("encode", "--run", run, "--out", out).code == 0
    assert columns("a.h5") == columns("b.h5")
    assert {name: columns("a.h5")[0][name] for name in COLUMNS} == columns("runs/tiny/bits.h5")[0]
