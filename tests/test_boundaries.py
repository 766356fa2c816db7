"""What may import what: priors knows nothing of dmzcli, and help costs nothing."""

import ast
from pathlib import Path

import pytest

import dmzcli
import priors

PRIORS = Path(priors.__file__).parent
DMZCLI = Path(dmzcli.__file__).parent
HEAVY = {"torch", "sklearn", "h5py", "accelerate", "matplotlib", "torchvision", "scipy"}


def imported(file):
    """The top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("file", sorted(PRIORS.rglob("*.py")), ids=lambda file: file.name)
def test_priors_never_names_dmzcli(file):
    assert "dmzcli" not in imported(file)
    assert "dmzcli" not in file.read_text(encoding="utf-8")  # neither through importlib


def test_priors_works_where_dmzcli_cannot_be_imported(python):
    program = """
import sys
sys.modules["dmzcli"] = None  # every import of it fails
import numpy as np, priors
bits = np.random.default_rng(0).integers(0, 2, (64, 6), dtype=np.uint8)
for kind in priors.automatic():
    prior = priors.create(kind, dim=6)
    prior.fit(bits)
    assert prior.sample(3).shape == (3, 6)
print(len(priors.automatic()))
"""
    assert int(python(program)) >= 2


COMMANDS = (
    "train,encode,fit-prior,sample,probe,likelihood,evaluate,sweep-steps,info,demo,data,data list,data prepare,"
    "data show,import-weights"
)


@pytest.mark.parametrize("command", ["", *COMMANDS.split(",")])
def test_help_loads_nothing_heavy(python, command):
    program = f"""
import sys
sys.argv = ["dmz", *{command.split()!r}, "--help"]
from dmzcli.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", *sorted({HEAVY!r} & sys.modules.keys()))
"""
    out = python(program)
    assert "Usage:" in out and "--help" in out
    assert out.splitlines()[-1] == "loaded:"


def test_the_library_below_the_commands_knows_no_typer():
    users = {file.relative_to(DMZCLI).parts[0] for file in DMZCLI.rglob("*.py") if "typer" in imported(file)}
    assert users == {"cli.py", "__main__.py", "commands"}


@pytest.mark.parametrize("file", sorted(DMZCLI.rglob("*.py")), ids=lambda f: str(f.relative_to(DMZCLI)))
def test_nothing_loads_pickles(file):
    text = file.read_text(encoding="utf-8")
    assert "torch.load(" not in text or "weights_only=True" in text
    assert "allow_pickle=True" not in text and "pickle.load" not in text
