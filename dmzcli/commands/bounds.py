"""What a number or a path on the command line may be; all of it is checked before any work begins."""

from __future__ import annotations

import math
import re
from pathlib import Path

import typer

from dmzcli.errors import UserError

MOST_SEED = 2**64 - 1
"""More would repeat the draws of one of these."""
MOST_TRAINING_SEED = 2**31 - 1
MOST_IMAGES = 10_000_000
MOST_STEPS = 10**9
COLDEST = 1e-6
"""There every bit is its likelier value."""


def finite(value: float | None) -> float | None:
    """Refuses what is no finite number, which any range would let through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


def device(name: str | None) -> str | None:
    """Refuses what no device is called; whether there is one of this name shows when it is looked for.

    Raises:
        UserError: It is none of cpu, cuda and mps, perhaps with a number.
    """
    if name is not None and not re.fullmatch(r"(cpu|cuda|mps)(:\d{1,3})?", name):
        raise UserError(f"no device '{name}' here", "use cpu, cuda, cuda:0, … or mps, or leave --device out")
    return name


def new_file(path: Path | None) -> Path | None:
    """Refuses a name that a file cannot be renamed onto.

    Raises:
        UserError: There is a folder, a device, a FIFO or a socket.
    """
    if path is not None and (path.is_dir() or not path.name):
        raise UserError(f"--out '{path}' is a folder, not a file", "name the file itself")
    if path is not None and path.exists() and not path.is_file():
        raise UserError(
            f"--out '{path}' is there already, and no regular file", "name another file with --out"
        )
    return path


def new_folder(path: Path | None) -> Path | None:
    """Refuses a name that no folder can have.

    Raises:
        UserError: There is something that is none.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise UserError(f"--out '{path}' is there already, and no folder", "name a folder with --out")
    return path
