"""Two commands that write one place: one is refused by name, or comes second; nothing is mixed, nothing is lost."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import priors
from dmzcli.codes.table import BitTable
from dmzcli.runs import Run
from dmzcli.system.locks import hold

CPU = ("--device", "cpu", "--quiet")
PLACES = {
    "train": (("train", "--run", "runs/tiny", "--max-steps", 14, *CPU), "runs/tiny", True),
    "encode": (("encode", "--mode", "sample", *CPU), "runs/tiny/bits.h5", False),
    "fit-prior": (("fit-prior", "--kind", "bernoulli", "--seed", 1), "runs/tiny/priors/bernoulli", False),
    "sample": (("sample", "bernoulli", "-n", 3, "--steps", 2, "--out", "new", *CPU), "new", True),
    "compare-priors": (("compare-priors", "--kind", "uniform", "--out", "new"), "new", True),
    "sweep-steps": (
        *(("sweep-steps", "--bits", "prior", "--steps", 2, "--samplers", "ddim", "--count", 20),),
        *("new", True),
    ),
}


def state():
    return {str(file): file.read_bytes() for file in Path().rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", PLACES)
def test_the_second_writer_is_refused_by_name(name, workshop, forked, tiny_settings, tiny_extractor):
    arguments, place, folder = PLACES[name]
    if name == "train":
        arguments += tiny_settings
    if name == "sweep-steps":
        arguments += ("--features", "tiny", "--out", "new", *CPU)
    with hold(Path(place), folder=folder):
        before = state()
        error, hint = forked(arguments).mistake()
        assert state() == before
    assert f"{place} is in use: '" in error and f"process {os.getpid()} on" in error
    assert "wait until it has ended" in hint
    assert forked(arguments).code == 0


def both(fork, *commands):
    """Runs commands at once; how they ended."""
    started = [fork(command) for command in commands]
    return [process.wait() for process in started]


def check(ended):
    """Each is done, or refused by name; at least one is done."""
    for one in ended:
        if one.code:
            assert "is in use: '" in one.mistake()[0], one.err
    assert any(one.code == 0 for one in ended)


def test_two_encodings_of_one_file_give_one_of_the_tables(workshop, fork, forked):
    commands = [("encode", "--out", "t.h5", "--mode", "sample", "--seed", seed, *CPU) for seed in (0, 1)]
    whole = []
    for command in commands:
        assert forked(command).code == 0
        whole.append(BitTable.read("t.h5").bits)
    for _ in range(4):
        Path("t.h5").unlink()
        check(both(fork, *commands))
        assert any(np.array_equal(BitTable.read("t.h5").bits, bits) for bits in whole)
        assert not list(Path().glob(".*"))


def test_two_fits_of_one_kind_leave_one_of_them(workshop, fork):
    commands = [("fit-prior", "--kind", "mixture", "--set", f"components={k}") for k in (2, 3)]
    for _ in range(4):
        check(both(fork, *commands))
        prior = priors.load("runs/tiny/priors/mixture")
        assert prior.options.components in (2, 3)
        assert len(list(Path("runs/tiny/priors/mixture").iterdir())) == 2
        assert not list(Path("runs/tiny/priors").glob(".*"))


@pytest.mark.parametrize("seeds", [(0, 1), (0, 0)])
def test_two_trainings_of_one_run_leave_one_of_them(fork, tiny_settings, seeds):
    commands = [
        ("train", "--run", "run", "--max-steps", 6, "--seed", seed, *tiny_settings, *CPU) for seed in seeds
    ]
    ended = both(fork, *commands)
    assert sorted(one.code for one in ended) == [0, 2]
    error, _ = next(one for one in ended if one.code).mistake()
    assert "run is in use: '" in error and f"--seed {seeds[[one.code for one in ended].index(0)]}" in error
    run = Run(Path("run"))
    assert [row["step"] for row in run.read_metrics()] == [2, 4, 6]
    assert json.loads(run.settings.read_text())["training"]["seed"] in seeds
    assert len(list(Path("run/tensorboard").iterdir())) == 1


def test_two_samplings_into_one_folder_leave_one_of_them(workshop, fork):
    commands = [
        ("sample", "bernoulli", "-n", 4, "--steps", 3, "--seed", seed, "--out", "s", *CPU) for seed in (0, 1)
    ]
    ended = both(fork, *commands)
    assert sorted(one.code for one in ended) == [0, 2]
    card = json.loads(Path("s/samples.json").read_text())
    assert card["seed"] == [one.code for one in ended].index(0)
    assert card == {**card, **json.loads(Path("s/plan.json").read_text())}
