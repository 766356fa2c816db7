"""Image packs: a dataset in one HDF5 file, readable with h5py and NumPy alone.

``/images`` uint8 (N, S, S, C), in one piece; ``/labels`` int64 (N,) and ``/attributes`` uint8 (N, A), each with the
attribute ``names``; ``/split`` uint8 (N,), 0 train, 1 valid, 2 test; ``/names``, those at the source, in UTF-8.
Root attributes: format, version, name, identity, crop, side, lossy, notes, key, created. Columns and root have the
attribute ``sha256``, see :mod:`dmzcli.system.hdf5`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from dmzcli.data.crops import Crop
from dmzcli.data.dataset import Content, Dataset
from dmzcli.errors import UserError
from dmzcli.system.hdf5 import Column, Kind, opened, strings, whole_file

KIND = Kind("dmz-images", 1, "an image pack", "make a pack with dmz data prepare")
_TYPES = {"labels": "i", "attributes": "u", "split": "u", "names": "S"}
"""The columns in addition to the images, and NumPy's letters for their types."""


def is_pack(path: Path) -> bool:
    """Whether a file says of itself that it is an image pack."""
    return KIND.is_of(path)


def write(
    path: Path, dataset: Dataset, images: Iterable[np.ndarray] | None = None, key: str = "", source: str = ""
) -> None:
    """Writes a pack, whole or not at all.

    Arguments:
        path: The file.
        dataset: The dataset; of its images only the shape is asked for where ``images`` is given.
        images: The images piece by piece, uint8 (n, S, S, C), in the order of the rows.
        key: Key by which the cache knows the pack.
        source: What it was made of, as JSON, by which the cache finds out whether that is still there.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    names = [name.encode("utf-8", "surrogateescape") for name in dataset.names or ()]
    optional = {
        "split": (dataset.split, {}),
        "labels": (dataset.labels, {"names": dataset.label_names}),
        "attributes": (dataset.attributes, {"names": dataset.attribute_names}),
        "names": (None if dataset.names is None else np.array(names, "S"), {}),
    }
    values = {name: (value, facts) for name, (value, facts) in optional.items() if value is not None}
    columns = {name: Column(value.shape, value.dtype, facts) for name, (value, facts) in values.items()}
    facts = {
        **KIND.facts(),
        "name": dataset.name,
        "identity": dataset.identity,
        "crop": dataset.fit,
        "side": dataset.side or "",
        "lossy": dataset.lossy,
        "notes": dataset.notes,
        "key": key,
        **({"source": source} if source else {}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with whole_file(path, facts, {"images": Column(dataset.images.shape, np.uint8), **columns}) as out:
        start = 0
        for piece in [dataset.images] if images is None else images:
            out.write("images", piece, start)
            start += len(piece)
        for name, (value, _) in values.items():
            out.write(name, value)
    if start != len(dataset.images):
        raise ValueError(f"{start} images for a pack of {len(dataset.images)}")


def read(path: str | Path) -> Dataset:
    """Opens a pack; its images are read from the disk when they are used.

    Raises:
        UserError: The file is missing, truncated, of another kind, or inconsistent.
    """
    path = Path(path)
    with opened(path, KIND) as file:
        stream = file.stream
        facts = dict(stream.attrs)
        columns = {name: _column(path, stream, name) for name in _TYPES if name in stream}
        names = {name: strings(stream[name]) for name in ("labels", "attributes") if name in stream}
        dataset = Dataset(
            images=file.mapped("images"),
            split=columns["split"],
            labels=columns.get("labels"),
            label_names=names.get("labels", ()),
            attributes=columns.get("attributes"),
            attribute_names=names.get("attributes", ()),
            lossy=bool(facts["lossy"]),
            names=_decoded(columns.get("names")),
            notes=strings(stream, "notes"),
            name=str(facts["name"]),
            identity=str(facts["identity"]),
            fit=str(facts["crop"]),
            side=str(facts["side"]) or None,
        )
        file.check()
        return dataset


def read_fitted(path: Path, crop: Crop) -> Dataset:
    """Opens a pack for images of the size and channels that ``crop`` asks for.

    Raises:
        UserError: As :func:`read`; or the pack was made with another crop, or its images do not fit.
    """
    dataset = read(path)
    size, channels = dataset.images.shape[2:]
    if crop.size in (None, size):
        if crop.fit not in ("exact", "pad", "resize", "crop", dataset.fit):
            raise UserError(
                f"{path} was made with the crop '{dataset.fit}', not '{crop.fit}'",
                "leave data.fit=exact to take the pack as it is, or prepare it anew",
            )
        if crop.channels in (None, channels):
            return dataset
        crop, fit = replace(crop, size=None, fit="exact"), dataset.fit
    else:
        fit = crop.fit if dataset.fit == "exact" else f"{dataset.fit}-{crop.fit}"
    content = {name: getattr(dataset, name) for name in Content.__dataclass_fields__}
    content["images"] = crop.apply_all(dataset.images, str(path))
    return Dataset.of(dataset.name, Content(**content), fit, dataset.side)


def _column(path: Path, stream: h5py.File, name: str) -> np.ndarray:
    """A column's values."""
    column = stream[name]
    if not isinstance(column, h5py.Dataset) or column.dtype.kind not in _TYPES[name]:
        raise UserError(f"{path}: /{name} is not a column of an image pack", KIND.hint)
    return np.asarray(column[()])


def _decoded(names: np.ndarray | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(name.decode("utf-8", "surrogateescape") for name in names)
