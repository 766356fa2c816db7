"""The parts that long work is made in: what is finished is kept on the disk, and the same work goes on from there.

Work whose result is one file ``F`` keeps its parts in the folder ``.F.parts`` beside it. Part k is arrays,
``k.NAME.npy`` each, and facts, ``k.json``, which is written last: the part is there when its facts are. The folder says
in ``parts.json`` what its parts are parts of, its key; parts of anything else are dropped, never mixed in.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.errors import UserError
from dmzcli.system.arrays import mapped
from dmzcli.system.files import atomic, read_json, user_errors, write_json


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

    def claim(self, key: Mapping[str, Any]) -> None:
        """Takes the folder for one piece of work.

        Arguments:
            key: All that decides what the parts hold, as JSON gives it back. Parts under another key are dropped.

        Raises:
            UserError: The folder cannot be written.
        """
        header = self.folder / "parts.json"
        if not header.exists() or read_json(header) != key:
            if self.folder.exists():
                self.remove()
            with user_errors(self.folder):
                self.folder.mkdir(parents=True)
            write_json(header, key)

    def write(
        self, number: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a part, whole or not at all.

        Raises:
            UserError: The disk is full.
        """
        for name, values in arrays.items():
            with atomic(self._array(number, name)) as temporary, temporary.open("wb") as stream:
                values = np.ascontiguousarray(values)
                form = np.lib.format  # np.save itself hides what the disk says
                form.write_array_header_1_0(stream, form.header_data_from_array_1_0(values))
                stream.write(values.data)
        write_json(self._facts(number), facts or {})

    def __contains__(self, number: int) -> bool:
        """Whether part ``number`` is there."""
        return self._facts(number).exists()

    def facts(self, number: int) -> dict[str, Any]:
        """The facts of a part."""
        return read_json(self._facts(number))

    def read(self, number: int, name: str) -> np.ndarray:
        """An array of a part; its rows are read from the disk when they are used."""
        file = self._array(number, name)
        try:
            return mapped(file)
        except ValueError as error:
            raise self.damaged(file) from error

    def damaged(self, file: Path | None = None) -> UserError:
        """The refusal of a part that is not as it was written."""
        return UserError(
            f"{file or self.folder} is damaged: it cannot be gone on from", f"remove the folder {self.folder}"
        )

    def join(self, name: str, count: int) -> np.ndarray:
        """The rows of the first ``count`` parts in one array; at any time one part is open."""
        first = self.read(0, name)
        rows = sum(len(self.read(number, name)) for number in range(count))
        whole, start = np.empty((rows, *first.shape[1:]), first.dtype), 0
        for number in range(count):
            part = self.read(number, name)
            if part.dtype != first.dtype or part.shape[1:] != first.shape[1:]:
                raise self.damaged(self._array(number, name))
            whole[start : start + len(part)] = part
            start += len(part)
        return whole

    def remove(self) -> None:
        """Removes the folder: the work is done, or another's.

        What says whose parts these are goes first, so that a kill in the middle leaves none that is taken for whole.
        """
        with user_errors(self.folder):
            (self.folder / "parts.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder)

    def _facts(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    def _array(self, number: int, name: str) -> Path:
        return self.folder / f"{number:06d}.{name}.npy"
