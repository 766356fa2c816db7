"""A kill at every file operation of every command: the same command again leaves what an undisturbed one leaves."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dmzcli.system.png import write_png

CPU = ("--device", "cpu")
COMMANDS = {
    "train": ("train", "--run", "new", "--max-steps", 4, *CPU),
    "train on": ("train", "--run", "runs/tiny", "--max-steps", 14, *CPU),
    "encode": ("encode", "--run", "runs/tiny", "--out", "new/bits.h5", *CPU),
    "encode again": ("encode", "--run", "runs/tiny", "--mode", "sample", *CPU),
    "fit-prior": ("fit-prior", "runs/tiny/bits.h5", "--kind", "bernoulli"),
    "fit-prior with checkpoints": (
        *("fit-prior", "runs/tiny/bits.h5", "--kind", "mixture", "--set", "components=2", "--set", "steps=4"),
        *("--set", "restarts=2", "--out", "new/mixture"),
    ),
    "sample": ("sample", "bernoulli", "-n", 3, "--steps", 2, "--run", "runs/tiny", "--out", "new", *CPU),
    "compare-priors": ("compare-priors", "runs/tiny/bits.h5", "--kind", "bernoulli", "--out", "new"),
    "import-weights": (
        *("import-weights", Path(__file__).parent / "iddpm" / "unet.safetensors", "--size", 16),
        *("--heads", 4, "--run", "new"),
    ),
    "data prepare": ("data", "prepare", "digits", "--out", "new/pack.h5"),
    "data prepare of pictures": ("data", "prepare", "pets", "--out", "new/pack.h5"),
    "data show of pictures": ("data", "show", "pets", "--out", "new/sheet.png"),
    "data show": ("data", "show", "digits", "--out", "new/sheet.png"),
    "likelihood": ("likelihood", "--run", "runs/tiny", "--count", 8, "--every", 25, *CPU),
    "reconstruct": (
        *("reconstruct", "--run", "runs/tiny", "--count", 8, "--steps", 2, "--invert-steps", 2),
        *("--out", "new/card.json", *CPU),
    ),
    "interpolate": (
        *("interpolate", "--run", "runs/tiny", "-n", 2, "--frames", 3, "--steps", 2),
        *("--features", "tiny", "--out", "new", *CPU),
    ),
    "evaluate": (
        *("evaluate", "--run", "runs/tiny", "--prior", "bernoulli", "--count", 20, "--steps", 2),
        *("--features", "tiny", "--metrics", "fid", *CPU),
    ),
    "sweep-steps": (
        *("sweep-steps", "--run", "runs/tiny", "--prior", "bernoulli", "--bits", "prior", "--steps", "2,3"),
        *("--samplers", "ddim", "--count", 20, "--features", "tiny", "--out", "new", *CPU),
    ),
}


CLOCK = {"created", "seconds", "images_per_second", "fit_seconds", "samples_per_second", "versions"}
"""What the clock says, or the machine."""


def contents(*folders):
    """All that lies in folders, by name, without what the clock says."""
    found = {}
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*")):
            name = re.sub(r"tfevents\..*", "tfevents", str(path.relative_to(folder)))
            assert f"{folder}/{name}" not in found, path
            found[f"{folder}/{name}"] = None if path.is_dir() else _content(path)
    return found


def _content(path):
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return [_timeless(json.loads(line)) for line in lines]
    if path.suffix == ".h5":
        with h5py.File(path) as stream:
            columns = {
                name: (stream[name][()].tolist(), str(stream[name].attrs["sha256"])) for name in stream
            }
            facts = {
                k: np.asarray(v).tolist() for k, v in stream.attrs.items() if k not in ("created", "sha256")
            }
            return columns, facts
    if "tfevents" in path.name or path.suffix in (".md", ".html"):
        return "there"
    return path.read_bytes()


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in CLOCK}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def emptied(*folders):
    """Empties folders."""
    for folder in folders:
        for path in Path(folder).glob("*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


FEW = 5
"""Kills of each command, evenly spread over its file operations, where it is not killed at each."""


@pytest.mark.parametrize(
    "all_of_them", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "all"]
)
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_anywhere_ends_as_undisturbed(
    name, all_of_them, workshop, forked, tiny_settings, tiny_extractor, tmp_path, monkeypatch
):
    monkeypatch.setattr("dmzcli.codes.encode.SMALLEST", 700)  # three parts
    monkeypatch.setattr(sys.modules["dmzcli.data.prepare"], "PART", 4)
    if "pets" in COMMANDS[name]:
        for i in range(10):
            write_png(f"pets/{'cat' if i % 2 else 'dog'}/{i}.png", np.full((8, 8, 1), 20 * i, np.uint8))
    arguments = COMMANDS[name]
    if arguments[0] == "train":
        arguments += tiny_settings
    places = (".", os.environ["DMZ_CACHE"])
    Path(places[1]).mkdir(parents=True)
    shutil.copytree(".", tmp_path / "before")
    done = forked(arguments)
    assert done.code == 0, done.err
    count = done.changes
    expected = contents(*places)
    assert not [name for name in expected if name.split("/")[-1].startswith(".")]
    places_of_kills = (
        range(count) if all_of_them else sorted({k * (count - 1) // (FEW - 1) for k in range(FEW)})
    )
    for number in places_of_kills:
        emptied(*places)
        shutil.copytree(tmp_path / "before", ".", dirs_exist_ok=True)
        assert forked(arguments, number).code == -signal.SIGKILL
        done = forked(arguments)
        imported = "new holds config.json already" in done.err  # killed after its last word
        assert done.code == 0 or (imported and arguments[0] == "import-weights"), (number, done.err)
        assert contents(*places) == expected, number
    print(f"{name}: {len(places_of_kills)} kills at {count} places")
