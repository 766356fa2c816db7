"""Which folder of the package may import which, read from the imports; lazy ones and those for types count."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import priors

ROOT = Path(priors.__file__).parent
MODULES = {
    ".".join(("priors", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in ROOT.rglob("*.py")
}
# The faces of the package are "priors" and "measures"; "contract" is every other module beside them. A kind is one
# module of kinds/, or one folder there.
ALLOWED = {
    "contract": {"contract"},
    "parts": {"contract", "parts"},
    "a kind": {"contract", "parts", "the same kind"},
    "kinds": {"a kind"},
    "measures": {"contract", "parts"},
    "priors": {"contract", "kinds"},
}


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports anywhere in it."""
    targets = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import, which this test does not follow"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                targets.add(inner if inner in MODULES else str(node.module))
    return targets & MODULES.keys()


def kind(module: str) -> str:
    """The file or folder of kinds/ that a module belongs to."""
    return module.split(".")[2]


def place(module: str) -> str:
    parts = module.split(".")
    if len(parts) <= 2:
        return parts[-1] if parts[-1] in ("priors", "measures", "kinds", "parts") else "contract"
    return "a kind" if parts[1] == "kinds" else parts[1]


def test_every_folder_imports_what_it_may_and_nothing_else() -> None:
    wrong = []
    for module in MODULES:
        for target in imports(module):
            relation = place(target)
            if relation == place(module) == "a kind" and kind(module) == kind(target):
                relation = "the same kind"
            if relation not in ALLOWED[place(module)]:
                wrong.append(f"{module} imports {target}")
    assert not wrong
    assert {place(module) for module in MODULES} == ALLOWED.keys()


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: imports(module) for module in MODULES}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert sum(map(len, graph.values())) > len(graph)  # the imports were read at all


def test_importing_the_package_loads_no_torch(python) -> None:
    assert python("import sys, priors; print('torch' in sys.modules)").strip() == "False"
