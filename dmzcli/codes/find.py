"""Which bit table a command works on."""

from __future__ import annotations

from pathlib import Path

from dmzcli.errors import UserError
from dmzcli.runs.find import ROOT, newest
from dmzcli.runs.run import Run


def find_bits(path: Path | None = None, run: Path | None = None, root: Path = ROOT) -> Path:
    """The bit table that a command works on: the named one, a run's, or the newest in sight.

    In sight are ``runs/*/bits.h5`` and the tables in the working folder.

    Raises:
        UserError: There is none.
    """
    from dmzcli.bits import is_bit_table

    if path is not None:
        return path
    if run is not None:
        if not Run(run).bits.exists():
            raise UserError(f"{run} has no bits.h5", f"make it with dmz encode --run {run}")
        return Run(run).bits
    latest = newest([*root.glob("*/bits.h5"), *filter(is_bit_table, Path().glob("*.h5"))])
    if latest is None:
        raise UserError(f"there is no bit table in {root}/ or here", "make one with dmz encode, or name it")
    return latest
