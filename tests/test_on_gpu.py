"""``benchmarks/on_gpu.sh``: the whole way at a tiny size, and that what it would do on a GPU is spelt right."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dmzcli

ROOT = Path(dmzcli.__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"
STAGES = "machine tests train-step training sampling encoding priors train codes prior sweep samples report".split()
pytestmark = pytest.mark.skipif(
    not (shutil.which("bash") and shutil.which("timeout")), reason="needs bash and timeout"
)

PRETENDS = """#!{python}
# In the interpreter's stead: a command line is parsed by the program that it is of, and nothing is done.
import argparse, runpy, sys
from pathlib import Path
arguments = sys.argv[1:]
parse = argparse.ArgumentParser.parse_args
def only_parse(parser, *given):
    parse(parser, *given)
    sys.exit(0)
argparse.ArgumentParser.parse_args = only_parse
if arguments[:2] == ["-m", "dmzcli"]:
    import typer.main
    from dmzcli.commands.app import app
    typer.main.get_command(app).commands[arguments[2]].make_context(arguments[2], arguments[3:])
elif arguments[0].endswith(".py"):
    sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")
elif arguments[:2] == ["-m", "pytest"]:
    import pytest
    sys.exit(pytest.main(["--collect-only", *arguments[2:]]))
"""


def interpreter(text):
    file = Path("interpreter")
    file.write_text(text.replace("{python}", sys.executable), encoding="utf-8")
    file.chmod(0o755)
    return file.resolve()


def run(*arguments, python=sys.executable, minutes=10):
    """The script's end, and what its summary says of each stage."""
    environment = {**os.environ, "PYTHON": str(python), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", str(SCRIPT), "out", "--minutes", str(minutes), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    rows = [
        line.strip("| ").split(" | ")
        for line in Path("out/summary.md").read_text(encoding="utf-8").splitlines()
    ]
    return done, {name: what for name, what, seconds in rows[2:]}


def test_stages_go_on_after_one_that_fails_and_the_end_says_so():
    done, said = run("--tiny", "--only", "encoding machine priors", "--data", "nowhere.tar.xz")
    assert done.returncode == 1 and "some stages have failed" in done.stderr
    assert list(said) == ["machine", "encoding", "priors"]
    assert said["machine"] == said["priors"] == "done"
    assert said["encoding"].startswith("FAILED (1)") and "nowhere.tar.xz" in said["encoding"]
    tables, logs = (Path("out", name).read_text(encoding="utf-8") for name in ("tables.md", "logs.txt"))
    assert "## priors" in tables and "chow-liu: fit" in tables and "device cpu" in tables
    assert "nowhere.tar.xz" in logs
    done, said = run(
        "--tiny", "--only", "machine"
    )  # the same folder: what was done before stays in the tables
    assert done.returncode == 0 and "chow-liu: fit" in Path("out/tables.md").read_text(encoding="utf-8")


def test_a_stage_that_hangs_is_ended_and_nothing_runs_past_the_end():
    done, said = run(python=interpreter("#!/bin/sh\nexec sleep 600\n"), minutes=0.05)
    assert done.returncode == 1 and list(said) == STAGES
    assert said["machine"] == "was ended after its 3 seconds"
    assert {said[name] for name in STAGES[1:]} == {"no time was left"}


def test_every_command_for_a_gpu_is_one_that_there_is():
    """Options, choices and tests; the sizes of the real thing, which only a GPU computes."""
    done, said = run(python=interpreter(PRETENDS), minutes=25)
    assert set(said.values()) == {"done"} and list(said) == STAGES, Path("out/logs.txt").read_text(
        encoding="utf-8"
    )
    assert done.returncode == 0
    assert "test" in Path("out/tests.md").read_text(encoding="utf-8")


def test_an_option_that_is_none_is_refused():
    done = subprocess.run(["bash", str(SCRIPT), "--tyni"], capture_output=True, text=True)
    assert done.returncode == 2 and "no such option: --tyni" in done.stderr and not Path("on-gpu").exists()


@pytest.mark.slow
def test_the_whole_way_at_a_tiny_size():
    done, said = run("--tiny")
    assert done.returncode == 0 and set(said.values()) == {"done"} and list(said) == STAGES, done.stdout
    for name in ("tables.md", "logs.txt", "grid.png", "samples.png", "sweep.png", "report.html"):
        assert Path("out", name).stat().st_size > 0
    tables = Path("out/tables.md").read_text(encoding="utf-8")
    for stage in STAGES:
        assert f"## {stage}\n" in tables
    for column in ("of the peak", "dmz / this", "diffusers-width"):
        assert column in tables
