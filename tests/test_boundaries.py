"""What may import what: one table of the rooms, no circle among modules, and help costs nothing."""

import ast
from pathlib import Path

import pytest
import typer.main

import dmzcli
import priors
from dmzcli.commands.app import app

PRIORS = Path(priors.__file__).parent
DMZCLI = Path(dmzcli.__file__).parent
HEAVY = {"torch", "sklearn", "h5py", "accelerate", "matplotlib", "torchvision", "scipy"}

# From the lowest floor to the highest. A room imports itself, what is named here, and nothing else of the two packages;
# imports inside functions count. ``priors`` is a library of its own.
FLOOR_1 = {"errors", "version"}
FLOOR_2 = FLOOR_1 | {"system", "config"}
FLOOR_3 = FLOOR_2 | {"data", "model", "diffusion"}
FLOOR_4 = FLOOR_3 | {"runs"}
FLOOR_5 = FLOOR_4 | {"codes", "pretrained", "priors"}
FLOOR_6 = FLOOR_5 | {"generation"}
FLOOR_7 = FLOOR_6 | {"training", "analysis"}
FLOOR_8 = FLOOR_7 | {"evaluation", "reports"}
FLOOR_9 = FLOOR_8 | {"studies"}
ALLOWED = {
    "errors": set(),
    "version": set(),
    "system": FLOOR_1,
    "config": FLOOR_1,
    "data": FLOOR_2,
    "model": FLOOR_2,
    "diffusion": FLOOR_2,
    "runs": FLOOR_3,
    "codes": FLOOR_4 | {"priors"},
    "pretrained": FLOOR_4,
    "generation": FLOOR_5,
    "training": FLOOR_6,
    "analysis": FLOOR_6,
    "library": FLOOR_6,
    "evaluation": FLOOR_7,
    "reports": FLOOR_7,
    "studies": FLOOR_8,
    "commands": FLOOR_9,
    "__main__": FLOOR_9 | {"commands"},
    "__init__": {"library", "version"},
}


def imported(file):
    """The modules that a file imports anywhere in it, in full; ``from a import b`` counts as ``a`` and ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def packages(file):
    """The top-level packages that a file imports."""
    return {name.split(".")[0] for name in imported(file)}


def room(file):
    """The room that a file of dmzcli lies in."""
    return file.relative_to(DMZCLI).parts[0].removesuffix(".py")


def modules(folder):
    """The files of a package by their modules' names."""
    by_name = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder.parent).with_suffix("").parts
        by_name[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return by_name


@pytest.mark.parametrize("file", sorted(DMZCLI.rglob("*.py")), ids=lambda f: str(f.relative_to(DMZCLI)))
def test_a_room_imports_from_the_floors_below_it(file):
    names = [name.split(".") for name in imported(file)]
    rooms = {parts[1] for parts in names if parts[0] == "dmzcli" and len(parts) > 1}
    rooms |= {"priors"} if any(parts[0] == "priors" for parts in names) else set()
    assert rooms - {room(file)} <= ALLOWED[room(file)]


def test_the_table_is_of_the_rooms_that_there_are():
    assert set(ALLOWED) == {room(file) for file in DMZCLI.rglob("*.py")}


@pytest.mark.parametrize("package", [DMZCLI, PRIORS], ids=["dmzcli", "priors"])
def test_no_circle_among_modules(package):
    """Lazy imports count; a package's face and the modules behind it are told apart by what is named."""
    known = modules(package)
    graph = {}
    for name, file in known.items():
        found = {target for target in imported(file) if target in known and target != name}
        # A module named inside its package is meant, not the package's face.
        graph[name] = {t for t in found if not any(other.startswith(f"{t}.") for other in found)}
    done, path = set(), []

    def walk(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for target in sorted(graph[name]):
                walk(target)
            path.pop()
            done.add(name)

    for name in graph:
        walk(name)


@pytest.mark.parametrize("file", sorted(PRIORS.rglob("*.py")), ids=lambda file: file.name)
def test_priors_never_names_dmzcli(file):
    assert "dmzcli" not in packages(file)
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


def commands(group=None, prefix=""):
    """Every command that there is, as it is typed."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        yield f"{prefix}{name}"
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize("command", ["", *commands()])
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


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_the_library_below_the_commands_knows_no_console(library):
    users = {room(file) for file in DMZCLI.rglob("*.py") if library in packages(file)}
    assert users <= {"__main__", "commands"}


@pytest.mark.parametrize("file", sorted(DMZCLI.rglob("*.py")), ids=lambda f: str(f.relative_to(DMZCLI)))
def test_nothing_loads_pickles(file):
    text = file.read_text(encoding="utf-8")
    assert "torch.load(" not in text or "weights_only=True" in text
    assert "allow_pickle=True" not in text and "pickle.load" not in text
