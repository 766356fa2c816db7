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

CPU = ("--device", "cpu")
COMMANDS = {
    "train": ("train", "--run", "new", "--max-steps", 4, *CPU),
    "train on": ("train", "--run", "runs/tiny", "--max-steps", 14, *CPU),
    "encode": ("encode", "--run", "runs/tiny", "--out", "new/bits.h5", *CPU),
    "encode again": ("encode", "--run", "runs/tiny", "--mode", "sample", *CPU),
    "fit-prior": ("fit-prior", "runs/tiny/bits.h5", "--kind", "bernoulli"),
    "fit-prior with checkpoints": (
        *("fit-prior", "runs/tiny/bits.h5", "--kind", "mixture", "--set", "components=2"),
        *("--set", "iterations=3", "--out", "new/mixture"),
    ),
    "sample": ("sample", "bernoulli", "-n", 3, "--steps", 2, "--run", "runs/tiny", "--out", "new", *CPU),
    "compare-priors": ("compare-priors", "runs/tiny/bits.h5", "--kind", "bernoulli", "--out", "new"),
    "data prepare": ("data", "prepare", "digits", "--out", "new/pack.h5"),
    "data show": ("data", "show", "digits", "--out", "new/sheet.png"),
    "likelihood": ("likelihood", "--run", "runs/tiny", "--count", 8, "--every", 25, *CPU),
    "reconstructions": (
        *("evaluate", "--reconstructions", "--run", "runs/tiny", "--count", 8, "--steps", 2),
        *("--out", "new/card.json", *CPU),
    ),
    "evaluate": (
        *("evaluate", "--run", "runs/tiny", "--prior", "bernoulli", "--count", 16, "--steps", 2),
        *("--features", "tiny", "--metrics", "fid", *CPU),
    ),
    "sweep-steps": (
        *("sweep-steps", "--run", "runs/tiny", "--prior", "bernoulli", "--bits", "prior", "--steps", "2,3"),
        *("--samplers", "ddim", "--count", 16, "--features", "tiny", "--out", "new", *CPU),
    ),
}


CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
CLOCK = {"created", "seconds", "images_per_second", "fit_seconds", "samples_per_second", "versions"}
"""What the clock says, or the machine."""


def changes(event, arguments, roots):
    """Whether an audit event is of a change below one of some folders."""
    if event == "open":
        if not isinstance(arguments[0], str | os.PathLike) or not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return False
    elif event not in CHANGES:
        return False
    if isinstance(arguments[0], int):  # an open file
        return True
    name = os.path.abspath(os.fspath(arguments[0]))
    return any(name.startswith(root) for root in roots)


def forked(arguments, kill_at=None):
    """Runs the command line in a fork.

    Returns:
        The exit code, ``None`` where it was killed; and the number of changes that it made.
    """
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        _run(arguments, kill_at, write)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return None, kill_at
    code, count, text = json.loads(said)
    return (code, count) if not code else (text, count)


def _run(arguments, kill_at, answer):
    from dmzcli.__main__ import main

    code, count = 1, 0
    roots = (os.getcwd(), os.environ["DMZ_CACHE"])
    said = os.open(os.devnull, os.O_RDWR)
    log = os.memfd_create("log")
    os.dup2(said, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)

    def hook(event, values):
        nonlocal count
        if changes(event, values, roots):
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.addaudithook(hook)
    sys.argv = ["dmz", *map(str, arguments)]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        sys.stderr.flush()
        text = os.pread(log, 4000, 0).decode(errors="replace")
        os.write(answer, json.dumps([code, count, text]).encode())
        os._exit(0)


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


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_anywhere_ends_as_undisturbed(name, workshop, tiny_settings, tiny_extractor, tmp_path):
    arguments = COMMANDS[name]
    if arguments[0] == "train":
        arguments += tiny_settings
    places = (".", os.environ["DMZ_CACHE"])
    shutil.copytree(".", tmp_path / "before")
    code, count = forked(arguments)
    assert code == 0
    expected = contents(*places)
    assert not [name for name in expected if name.split("/")[-1].startswith(".")]
    for number in range(count):
        emptied(*places)
        shutil.copytree(tmp_path / "before", ".", dirs_exist_ok=True)
        killed, _ = forked(arguments, number)
        assert killed is None
        code, _ = forked(arguments)
        assert code == 0, (number, code)
        assert contents(*places) == expected, number
    print(f"{name}: {count} kills")
