"""What lies in the cache, and what of it nobody needs any longer.

The cache holds image packs, features of references, classifiers and downloads; all but the downloads can be made again
at any time. A pack is no longer needed where its files are gone or have changed, or where no command has asked for it
for some days; parts and temporary files are left over where no living process works on them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmzcli.data.prepare import unchanged
from dmzcli.system.files import cache_root, user_errors
from dmzcli.system.hdf5 import attributes
from dmzcli.system.locks import hold, in_use

DAYS = 30.0
"""A pack that no command has asked for in so many days is not asked for any longer."""
HOUR = 3600.0
_KINDS = {
    "packs": "image pack",
    "references": "reference",
    "classifiers": "classifier",
    "datasets": "download",
}


@dataclass(frozen=True)
class Entry:
    """A file or folder of the cache.

    Attributes:
        path: Where it is.
        kind: What it is.
        of: The dataset's identity, or a name.
        bytes: Its size on the disk.
        days: Since it was made or last asked for.
        why: Why nobody needs it any longer; empty where someone may.
    """

    path: Path
    kind: str
    of: str
    bytes: int
    days: float
    why: str = ""

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "path": str(self.path)}


def entries(days: float = DAYS) -> list[Entry]:
    """All that lies in the cache, the largest first.

    Arguments:
        days: After so many days without use a pack is no longer asked for.

    Raises:
        UserError: The cache cannot be read.
    """
    root = cache_root()
    with user_errors(root):
        return sorted(_entries(root, days), key=lambda entry: -entry.bytes) if root.is_dir() else []


def _entries(root: Path, days: float) -> Iterator[Entry]:
    for top in sorted(root.iterdir()):
        paths = sorted(top.iterdir()) if top.name in _KINDS else [top]
        for path in paths:
            if path.name.endswith(".lock"):
                continue  # listed with what it locks
            size, age = _size(path), (time.time() - _changed(path)) / (24 * HOUR)
            if path.name.startswith("."):
                parts = path.name.endswith(".parts")
                # .NAME.parts and .NAME.tmp are folders; earlier versions left files .NAME.RANDOM.tmp
                out = path.with_name(path.name[1:].rsplit(".", 1 if path.is_dir() else 2)[0])
                why = "" if in_use(out) else "left over: no process works on it"
                yield Entry(path, "parts" if parts else "temporary file", out.name, size, age, why)
            elif top.name == "packs":
                yield Entry(path, _KINDS["packs"], _identity(path), size, age, _why_not(path, age, days))
            else:
                yield Entry(path, _KINDS.get(top.name, "other"), path.stem, size, age)


def _identity(pack: Path) -> str:
    return str(attributes(pack).get("identity", pack.stem))


def _why_not(pack: Path, age: float, days: float) -> str:
    if in_use(pack):
        return ""
    if "identity" not in attributes(pack):
        return "no whole image pack"
    if unchanged(pack) is False:
        return "the files that it was made of are gone or have changed"
    return f"not asked for in {age:.0f} days" if age >= days else ""


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _changed(path: Path) -> float:
    """When a file, or the newest in a folder, was changed last."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return max(file.lstat().st_mtime for file in files)


def remove(entry: Entry) -> None:
    """Removes an entry under its lock.

    Raises:
        UserError: A process works on it, or it cannot be removed.
    """
    over = entry.kind in ("parts", "temporary file")
    with hold(entry.path.with_name(entry.of) if over else entry.path), user_errors(entry.path):
        if entry.path.is_dir():
            shutil.rmtree(entry.path, ignore_errors=over)  # taking the lock has swept what was left over
        else:
            entry.path.unlink(missing_ok=True)
