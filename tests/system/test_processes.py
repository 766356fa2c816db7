"""Several processes: they make what one makes, they stop together, and one that dies is missed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import dmzcli
from dmzcli.codes.table import BitTable
from dmzcli.runs import Run
from dmzcli.system import processes

DRIVER = """
import json, sys
from dmzcli.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
"""Runs commands one after the other, so that two processes are started once."""


@pytest.fixture
def launched(tmp_path):
    """Starts commands in processes of torchrun, two by default."""
    started = []
    driver = tmp_path / "driver.py"

    def start(*commands, count=2, before=""):
        driver.write_text(before + "\n" + DRIVER)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
        environment["PYTHONPATH"] = str(Path(dmzcli.__file__).parent.parent)
        launcher = (
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(count),
        )
        texts = json.dumps([[str(part) for part in command] for command in commands])
        process = subprocess.Popen(
            [*launcher, str(driver), texts],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()  # the launcher ends its processes
        process.communicate()


def test_two_processes_make_what_one_makes(launched, dmz, tiny_settings):
    """Twenty steps, the table, and images; then one process goes on with what two have begun."""
    settings = (*tiny_settings, "--set", "training.log_every=1", "--set", "training.checkpoint_every=10")
    settings += ("--set", "training.valid_every=10", "--device", "cpu")
    settings += ("--set", "training.entropy=0.1", "--set", "training.decorrelation=0.1")

    parts = ("--set", "training.accumulate=2", "--set", "training.checkpoint_activations=true")

    def commands(name):
        here = ("--run", "one", "--device", "cpu", "--json")
        sample = ("sample", "bernoulli", *here, "--count", 9, "--steps", 3, "--out", f"samples-{name}")
        return (
            (
                "train",
                *settings,
                *(parts if name == "two" else ()),
                "--run",
                name,
                "--max-steps",
                20,
                "--json",
            ),
            ("encode", *here, "--out", f"{name}.h5", "--mode", "sample"),
            sample,
        )

    train, encode, sample = commands("one")
    fit = ("fit-prior", "--run", "one", "--kind", "bernoulli", "--quiet")
    for command in (train, encode, ("encode", "--run", "one", "--device", "cpu", "--quiet"), fit, sample):
        done = dmz(*command)
        assert done.code == 0, done
    process = launched(*commands("two"))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    objects = [json.loads(line) for line in out.splitlines()]
    assert len(objects) == 3 and objects[0]["step"] == 20  # one object a command, not one a process

    one, other = (Run(Path(name)).read_metrics() for name in ("one", "two"))
    assert [row["step"] for row in one] == [row["step"] for row in other] == list(range(1, 21))
    for key in ("loss", "gradient_norm", "valid_loss", "entropy", "decorrelation"):
        values = [[row[key] for row in rows if key in row] for rows in (one, other)]
        np.testing.assert_allclose(*values, rtol=0, atol=1e-5)  # float32, and 20 steps of its rounding

    tables = [BitTable.read(f"{name}.h5") for name in ("one", "two")]
    assert np.array_equal(tables[0].bits, tables[1].bits)
    assert np.array_equal(tables[0].probs, tables[1].probs)
    archives = [np.load(f"samples-{name}/samples.npz") for name in ("one", "two")]
    assert np.array_equal(archives[0]["images"], archives[1]["images"])
    assert np.array_equal(archives[0]["bits"], archives[1]["bits"])
    assert not list(Path().glob(".*.parts"))

    for name in ("one", "two"):
        assert dmz("train", *settings, "--run", name, "--max-steps", 24, "--quiet").code == 0
    ends = [Run(Path(name)).read_metrics()[-1] for name in ("one", "two")]
    assert ends[0]["step"] == ends[1]["step"] == 24
    assert ends[0]["loss"] == pytest.approx(ends[1]["loss"], abs=1e-5)


def test_one_launched_process_is_one_process(launched, dmz, tiny_settings):
    """Though its model is wrapped for several; and it says no word more."""
    settings = (
        *tiny_settings,
        "--set",
        "training.accumulate=4",
        "--device",
        "cpu",
        "--max-steps",
        4,
        "--json",
    )
    alone = dmz("train", *settings, "--run", "alone", "--quiet").json
    process = launched(("train", *settings, "--run", "launched", "--quiet"), count=1)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["loss"] == pytest.approx(alone["loss"], abs=1e-6)
    assert "Warning" not in err


def test_a_stop_waits_for_the_checkpoint(launched, tiny_settings):
    """However long the main process writes: the others do not leave before, or the launcher would end it."""
    slow = (
        "import dmzcli.training.checkpoint, time; save = dmzcli.training.checkpoint.save_tensors\n"
        "dmzcli.training.checkpoint.save_tensors = lambda *a: (time.sleep(5), save(*a))"
    )
    process = launched(
        ("train", *tiny_settings, "--run", "run", "--device", "cpu", "--max-steps", 1000000), before=slow
    )
    deadline = time.monotonic() + 200
    while not Path("run/metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    for child in children(process.pid):
        os.kill(child, signal.SIGTERM)
    _out, err = process.communicate(timeout=120)
    assert "the checkpoint of step " in err and " is saved" in err
    assert Path("run/train-state/state.safetensors").exists()


def children(pid):
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes under /proc")
def test_a_killed_process_ends_the_run_and_it_goes_on(launched, dmz, tiny_settings):
    settings = (*tiny_settings, "--run", "run", "--device", "cpu")
    process = launched(("train", *settings, "--max-steps", 1000000))
    deadline = time.monotonic() + 200
    while not Path("run/train-state/state.safetensors").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    os.kill(max(children(process.pid)), signal.SIGKILL)
    _out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "another of the 2 processes has ended or does not answer; the checkpoint of step " in err
    assert "run the same command to go on" in err
    kept = Run(Path("run")).read_metrics()[-1]["step"]
    done = dmz("train", *settings, "--max-steps", kept + 8, "--json")
    assert done.json["finished"] and "resuming run at step" in done.err


def test_two_launched_trainings_of_one_run_are_told_apart(launched, tiny_settings):
    """The main process takes the lock for all; of the second training all fail, and at once."""
    command = ("train", *tiny_settings, "--run", "run", "--device", "cpu", "--max-steps", 1000000)
    first = launched(command)
    deadline = time.monotonic() + 200
    while not Path("run/.lock").exists():
        assert first.poll() is None and time.monotonic() < deadline, first.communicate()
        time.sleep(0.1)
    second = launched(command)
    _out, err = second.communicate(timeout=200)
    assert second.returncode != 0
    assert "error: run is in use: '" in err and "--max-steps 1000000' writes it (process " in err
    assert "process 1: the main process cannot write run" in err
    assert first.poll() is None and Path("run/.lock").exists()


def test_commands_that_do_not_share_their_work_are_refused(dmz, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    error, hint = dmz("probe").mistake()
    assert error == "error: dmz probe runs in one process, but 2 were started" and "train" in hint
    error, _ = dmz("train", "--dry-run").mistake()
    assert "--dry-run measures one process" in error
    monkeypatch.setenv("RANK", "1")
    ended = dmz("probe", "--json")
    assert (ended.code, ended.out) == (2, "") and ended.err.startswith("process 1: ")


def test_several_processes_take_no_numbered_device(dmz, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    error, hint = dmz("train", "--device", "cpu:0").mistake()
    assert error == "error: --device cpu:0 names one device for several processes" and "cuda" in hint


def test_one_process_waits_for_nobody():
    assert processes.largest(3, -2.5) == [3, -2.5] and processes.neighbors() == 1
    assert torch.equal(processes.from_main(torch.ones(2)), torch.ones(2))
    processes.wait()
    with processes.first_of_machine():
        pass
