"""The examples run as their docstrings say."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


def test_nearest_codes(example, run, capsys):
    example("nearest_codes.py", run.bits, "--neighbors", 3)
    assert "of the 3 nearest of 1,197 codes" in capsys.readouterr().out


def test_whole_path(example, capsys):
    example("whole_path.py", "--steps", 2)
    assert Path("digits.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert out.startswith("trained 2 steps") and out.count("test accuracy") == 3


@pytest.mark.parametrize("name", ["train.slurm", "many_machines.sh"])
def test_scripts_are_shell(name):
    """They need several machines; that they can be read is what one can test."""
    shell = "bash" if name.endswith("slurm") else "sh"
    subprocess.run([shell, "-n", str(EXAMPLES / name)], check=True)


@pytest.mark.parametrize("node", ["0", "1"])
def test_the_script_for_many_machines_starts_what_it_says(tmp_path, node):
    """With launcher and Python that print their arguments instead."""
    (Path("run/priors/bernoulli")).mkdir(parents=True)
    Path("run/priors/bernoulli/prior.json").touch()
    environment = {
        **os.environ,
        "TORCHRUN": "echo torchrun",
        "PYTHON": "echo python",
        "RUN": "run",
        "NODE": node,
        "HEAD": "192.0.2.1",  # a name of the machine that it does not know itself by
        "GPUS": "2",
    }
    script = ["sh", str(EXAMPLES / "many_machines.sh"), "digits"]
    lines = subprocess.run(
        script, env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    ends = [line.partition("dmzcli ")[2] for line in lines]
    assert ends == [
        "train digits --run run",
        "encode --run run",
        *(["fit-prior --run run --kind bernoulli"] if node == "0" else []),
        "sample bernoulli --run run --count 50000",
    ]
    assert all(
        "--nproc-per-node=2" in line and " -m -- dmzcli" in line for line in lines if "torchrun" in line
    )
