"""The examples run as their docstrings say."""

import gzip
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dmzcli.data import SPLITS, load_pairs

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


def fashion(folder, counts=(120, 20)):
    """Fashion-MNIST's files, of bright squares; the classes take turns."""
    for part, count in zip(("train", "t10k"), counts, strict=True):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 8:20, 8:20] = 200
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))


def test_pairs_of_fashion(example, capsys, tmp_path):
    fashion(tmp_path)
    example("fashion_pairs.py", "pairs", "--data-dir", tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "pairs/shoes: 42 pairs",
        "pairs/bags: 14 pairs",
        "pairs/clothes: 84 pairs",
    ]
    pairs = load_pairs("pairs/shoes")
    assert [len(pairs.a.rows(split)) for split in SPLITS] == [33, 3, 6]
    assert pairs.a.label_names == ("Ankle boot", "Sandal", "Sneaker")
    assert (pairs.b.images[:, 8:20, 8:20] == 200).all() and pairs.b.images.max() == 200
    black = (pairs.a.images == 0).mean((0, 3))
    assert set(np.unique(pairs.a.images)) == {0, 255}
    assert black[10:18, 10:18].sum() == 0 and black[:6].sum() == 0  # lines where the square ends, only
    assert black[6:10, 10:18].sum(0).all()


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
