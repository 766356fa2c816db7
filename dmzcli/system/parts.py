"""The parts that long work is made in: what is finished is kept on the disk, and the same work goes on from there.

Work whose result is one file ``F`` keeps its parts in the folder ``.F.parts`` beside it, under the lock of ``F``. The
folder says in ``parts.json`` what its parts are parts of, its key; parts of anything else are dropped, never mixed in.
Part k is arrays, ``k-KEY.NAME.npy`` each, and facts, ``k-KEY.json``, which is written last: the part is there when its
facts are. KEY is the digest of the key, and the facts hold the digests of the arrays, which are compared when they are
read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.errors import UserError
from dmzcli.system.files import atomic, read_json, user_errors, write_json

LAYOUT = 2
"""Version of how parts lie in their folder."""


_NAME = re.compile(r"\d{6}-[0-9a-f]{8}\.(json|[a-z]+\.npy)")


class Parts:
    """The parts of one file.

    Arguments:
        out: The file that they are for.

    Example:
        >>> import tempfile
        >>> parts = Parts(Path(tempfile.mkdtemp()) / "squares")
        >>> parts.claim({"of": "squares"})
        >>> for k in range(3):
        ...     parts.write(k, {"values": np.array([k, k * k])})
        >>> 2 in parts, 3 in parts
        (True, False)
        >>> parts.join("values", 3)
        array([0, 0, 1, 1, 2, 4])
        >>> parts.remove()
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.parent / f".{out.name}.parts"
        self._digest = ""

    def claim(self, key: Mapping[str, Any], say: Callable[[str], None] | None = None) -> None:
        """Takes the folder for one piece of work.

        Arguments:
            key: All that decides what the parts hold, as JSON gives it back. Parts under another key are dropped.
            say: Told of it.

        Raises:
            UserError: The folder cannot be written.
        """
        self.know(key)
        header, own = self.folder / "parts.json", {"layout": LAYOUT, "key": dict(key)}
        there = read_json(header) if header.exists() else None
        if there == own:
            return
        if self.folder.exists():
            whose = self._whose(there)
            if whose and say is not None:
                say(f"{self.folder}: the parts of {whose} in it are thrown away")
            self.remove()
        with user_errors(self.folder):
            self.folder.mkdir(parents=True)
        write_json(header, own)

    def _whose(self, header: Mapping[str, Any] | None) -> str:
        """Whose parts the folder holds, in words; nothing where it holds none, or the rest of finished work."""
        files = [file.name for file in self.folder.iterdir() if file.name != "parts.json"]
        if any(_NAME.fullmatch(name) is None for name in files):
            return "an earlier version of dmz"
        return "other settings or other data" if files and header is not None else ""

    def know(self, key: Mapping[str, Any]) -> None:
        """Takes parts of this key for one's own in a folder that the main process has claimed."""
        self._digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:8]

    def write(
        self, number: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a part, whole or not at all.

        Raises:
            UserError: The disk is full.
        """
        written = {}
        for name, values in arrays.items():
            with atomic(self._array(number, name)) as temporary, temporary.open("wb") as stream:
                values = np.ascontiguousarray(values)
                form = np.lib.format  # np.save itself hides what the disk says
                form.write_array_header_1_0(stream, form.header_data_from_array_1_0(values))
                stream.write(values.data)
                written[name] = {"rows": len(values), "sha256": _digest(values)}
        write_json(self._facts(number), {"facts": facts or {}, "arrays": written})

    def __contains__(self, number: int) -> bool:
        """Whether part ``number`` is there."""
        return self._facts(number).exists()

    def facts(self, number: int) -> dict[str, Any]:
        """The facts of a part."""
        return dict(read_json(self._facts(number))["facts"])

    def read(self, number: int, name: str) -> np.ndarray:
        """An array of a part, found to be what was written; its rows are read from the disk when they are used.

        Raises:
            UserError: It is not; the part counts as absent from now on.
        """
        file, written = self._array(number, name), read_json(self._facts(number))["arrays"][name]
        try:
            values = np.load(file, mmap_mode="r")
            whole = _digest(values) == written["sha256"]
        except (OSError, ValueError, EOFError):
            whole = False
        if not whole:
            self._facts(number).unlink(missing_ok=True)
            raise UserError(
                f"{file} is not what was written", "run the same command again: this part is made anew"
            )
        return values

    def join(self, name: str, count: int) -> np.ndarray:
        """The rows of the first ``count`` parts in one array; at any time one part is open.

        Raises:
            UserError: A part is not what was written.
        """
        rows = [int(read_json(self._facts(number))["arrays"][name]["rows"]) for number in range(count)]
        first = self.read(0, name)
        whole, start = np.empty((sum(rows), *first.shape[1:]), first.dtype), 0
        for number in range(count):
            whole[start : start + rows[number]] = self.read(number, name)
            start += rows[number]
        return whole

    def remove(self) -> None:
        """Removes the folder: the work is done, or another's.

        What says whose parts these are goes first, so that a kill in the middle leaves none that is taken for whole.
        """
        with user_errors(self.folder):
            (self.folder / "parts.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder)

    def _facts(self, number: int) -> Path:
        return self.folder / f"{number:06d}-{self._digest}.json"

    def _array(self, number: int, name: str) -> Path:
        return self.folder / f"{number:06d}-{self._digest}.{name}.npy"


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
