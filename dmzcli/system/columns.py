"""Columns of HDF5 files of others: they lie in the file itself, and are no larger than it can hold.

HDF5 follows links into any file of the user's, and gives zeros for what was announced and never written.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from dmzcli.errors import UserError
from dmzcli.system import reading


def own_column(path: Path, stream: h5py.File, name: str) -> h5py.Dataset:
    """A column that lies in the file itself.

    Raises:
        KeyError: There is none.
        UserError: It is a link to elsewhere, which may be any file of the user's, or a group.
    """
    link = stream.get(name, getlink=True)
    if link is None:
        raise KeyError(f"'{name}'")
    found = stream[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise UserError(f"{path}: /{name} is no column in the file itself", "make the file anew")
    return found


def values(path: Path, column: h5py.Dataset) -> np.ndarray:
    """All values of a column, once they are known to be there.

    Raises:
        UserError: They would take far more memory than the file takes on the disk.
    """
    check_size(path, column)
    return np.asarray(column[()])


def check_size(path: Path, column: h5py.Dataset) -> None:
    """Raises UserError where a column announces far more than the file holds."""
    held = min(column.id.get_storage_size(), column.file.id.get_filesize())
    limit = reading.unpacked_limit(held)
    if column.nbytes > limit:
        raise reading.too_large(f"{path}: {column.name}, unpacked,", limit)
