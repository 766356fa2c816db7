"""Commands on a disk that fills up: exit code 2, two lines, nothing half-written, nothing lost."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

KIB = 1024


@pytest.fixture
def disk(pristine, tmp_path):
    """A small file system, entered, with the shared run on it; ``fill(n)`` leaves n bytes free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = sum(file.stat().st_size for file in pristine.rglob("*") if file.is_file())
    blocks = 2 * size // KIB + 1024
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={blocks}k", "tmpfs", folder],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    before = Path.cwd()
    shutil.copytree(pristine / "runs", folder / "runs")
    os.chdir(folder)
    yield
    os.chdir(before)
    subprocess.run(["umount", "-l", folder], check=True)


def fill(free):
    """Fills the disk up to some bytes."""
    stat = os.statvfs(".")
    with open("ballast", "wb") as stream:
        stream.write(b"\0" * max(0, stat.f_bavail * stat.f_frsize - free))


def files():
    return {str(f): f.read_bytes() for f in Path().rglob("*") if f.is_file() and f.name != "ballast"}


COMMANDS = {
    "encode": (("encode", "--out", "runs/tiny/bits.h5", "--mode", "sample"), 8 * KIB),
    "encode at the table": (("encode", "--out", "runs/tiny/bits.h5", "--mode", "sample"), 48 * KIB),
    "data prepare": (("data", "prepare", "digits", "--out", "pack.h5"), 48 * KIB),
    "data prepare at nothing": (("data", "prepare", "digits", "--out", "pack.h5"), 0),
    "fit-prior": (("fit-prior", "runs/tiny/bits.h5", "--kind", "empirical", "--seed", "1"), 0),
    "fit-prior bernoulli": (("fit-prior", "runs/tiny/bits.h5", "--kind", "bernoulli", "--seed", "1"), 0),
    "sample": (("sample", "bernoulli", "-n", "64", "--steps", "2"), 16 * KIB),
    "sample at once": (("sample", "bernoulli", "-n", "4", "--steps", "2"), 0),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_told_and_loses_nothing(dmz, disk, name):
    arguments, free = COMMANDS[name]
    before = files()
    fill(free)
    error, hint = dmz(*arguments).mistake()
    assert error.startswith("error: no space left to write ") and "free some space" in hint
    after = files()
    assert {file: after.get(file) for file in before} == before
    assert not [file for file in after if file.endswith(".tmp")]
    os.unlink("ballast")
    again = dmz(*arguments)
    assert again.code == 0, again.err  # and the same command goes on


@pytest.mark.parametrize("free", [0, 200 * KIB])
def test_training_on_a_full_disk_keeps_its_checkpoint(dmz, disk, tiny_settings, free):
    arguments = (
        "train",
        "--run",
        "runs/tiny",
        *tiny_settings,
        "--set",
        "training.checkpoint_every=2",
        "--device",
        "cpu",
    )
    run = Path("runs/tiny")
    kept = {
        name: (run / name).read_bytes() for name in ("model.safetensors", "train-state/state.safetensors")
    }
    fill(free)
    ended = dmz(*arguments, "--max-steps", "18")
    if ended.code:
        error, _ = ended.mistake()
        assert error.startswith("error: no space left to write ")
        if free == 0:
            assert kept == {name: (run / name).read_bytes() for name in kept}
    assert not list(run.rglob("*.tmp"))
    os.unlink("ballast")
    again = dmz(*arguments, "--max-steps", "18", "--json")
    assert again.code == 0, again.err
    assert again.json["step"] == 18


SIMULATED = {name: arguments for name, (arguments, _) in COMMANDS.items() if "at" not in name.split()}


@pytest.mark.parametrize("name", SIMULATED)
def test_the_same_where_nothing_can_be_mounted(dmz, workshop, monkeypatch, name):
    """The disk refuses when a file is flushed to it, as it does under delayed allocation."""

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        error, _ = dmz(*SIMULATED[name]).mistake()
    assert error.startswith("error: no space left to write ")
    after = files()
    assert {file: after.get(file) for file in before} == before
    assert not [file for file in after if file.endswith(".tmp")]
