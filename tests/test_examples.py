"""The examples run as their docstrings say."""

import runpy
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
    example("nearest_codes.py", run.bits, "--neighbours", 3)
    assert "of the 3 nearest of 1,197 codes" in capsys.readouterr().out


def test_whole_path(example, capsys):
    example("whole_path.py", "--steps", 2)
    assert Path("digits.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert out.startswith("trained 2 steps") and out.count("test accuracy") == 3
