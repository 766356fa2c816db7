"""Parquet files in the layout of Hugging Face's image datasets.

Each row has a struct of ``bytes`` (a picture file's) and ``path``, and perhaps a ``label``; the schema's metadata
names the classes. Read from one file, or from a folder of ``train-00000-of-00002.parquet`` and the like, whose names
begin with their split. pyarrow, which reads them, is optional.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.data.decoding import Item, Pictures
from dmzcli.data.layout import SPLIT_FOLDERS, Layout
from dmzcli.data.splits import TRAIN, hold_out_missing
from dmzcli.errors import UserError
from dmzcli.system.reading import check_regular, loads

IMAGES, LABELS = ("image", "img"), ("label", "labels")
_SHAPE = "expected the columns image {bytes, path} and label, as Hugging Face's image datasets have them"


def parquet_files(where: Path) -> list[Path]:
    """The Parquet files of a path: itself, those in a folder, or those in its subfolder ``data``; sorted."""
    if where.is_dir():
        return sorted(where.glob("*.parquet")) or sorted((where / "data").glob("*.parquet"))
    return [where] if where.suffix.lower() == ".parquet" else []


@contextmanager
def parquet_pictures(where: Path) -> Iterator[Pictures]:
    """The pictures of Parquet files, in the order of the files and rows.

    Raises:
        UserError: pyarrow is missing, a file is damaged or of another layout, or two files disagree.
    """
    pq = _pyarrow()
    files = parquet_files(where)
    for file in files:
        check_regular(file)
    try:
        opened = [pq.ParquetFile(file, memory_map=True) for file in files]
        image, label = _columns(opened[0].schema_arrow, files[0])
        names = _class_names(opened[0].schema_arrow, label)
        labels: list[int] = []
        for one, file in zip(opened, files, strict=True):
            if _columns(one.schema_arrow, file) != (image, label):
                raise UserError(f"{file} has other columns than {files[0]}", "keep one dataset in a folder")
            labels += one.read([label])[label].to_pylist() if label else []
    except _DAMAGE as error:
        raise _damaged(where) from error
    counts = [one.metadata.num_rows for one in opened]
    for file, count in zip(files, counts, strict=True):
        if not 0 <= count <= file.stat().st_size:
            raise UserError(f"{file} announces {count:,} rows, more than its bytes", "download it again")
    codes = np.repeat(np.array([_split(file) for file in files], np.uint8), counts)
    keys = (f"{file.name}/{i}" for file, count in zip(files, counts, strict=True) for i in range(count))
    rows = {name: row for row, name in enumerate(keys)}
    label_names = _checked(labels, names, where) if label else ()

    def arrange(good: list[str]) -> Layout:
        chosen = [rows[name] for name in good]
        split = codes[chosen]
        given = np.array(labels, np.int64)[chosen] if label else None
        hold_out_missing(split, good, given)
        if not (split == TRAIN).any():
            raise UserError(f"{where} has no training pictures", "add a file train-00000-of-00001.parquet")
        return Layout(np.arange(len(good)), split, given, label_names)

    def items() -> Iterator[Item]:
        for one, file in zip(opened, files, strict=True):
            number = 0
            batches = one.iter_batches(batch_size=64, columns=[image])
            while (rows_ := _next_rows(batches, where)) is not None:
                for row in rows_:
                    data = (row or {}).get("bytes")
                    yield Item(f"{file.name}/{number}", lambda data=data: data or b"")  # type: ignore[misc]
                    number += 1

    yield Pictures(where if where.is_dir() else where.parent, items(), arrange, total=sum(counts))


_DAMAGE = (OSError, ValueError, NotImplementedError, TypeError, KeyError, IndexError)
"""What pyarrow's own errors are."""


def _damaged(where: Path) -> UserError:
    return UserError(f"{where} is truncated or no Parquet file: its bytes are damaged", "download it again")


def _next_rows(batches: Iterator[Any], where: Path) -> list[Any] | None:
    try:
        batch = next(batches, None)
        return None if batch is None else batch.column(0).to_pylist()
    except _DAMAGE as error:
        raise _damaged(where) from error


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(
            "reading Parquet files needs pyarrow", "install it with pip install 'dmz[parquet]'"
        ) from error
    return pq


def _columns(schema: Any, file: Path) -> tuple[str, str | None]:
    """The names of the columns with the pictures and the labels."""
    image = next((name for name in IMAGES if name in schema.names), None)
    if image is None:
        raise UserError(f"{file} has no column 'image', but {', '.join(schema.names)}", _SHAPE)
    kind = schema.field(image).type
    if "bytes" not in [kind.field(i).name for i in range(kind.num_fields)]:
        raise UserError(f"{file}: the column '{image}' is {kind}, without the bytes of a picture", _SHAPE)
    return image, next((name for name in LABELS if name in schema.names), None)


def _class_names(schema: Any, label: str | None) -> tuple[str, ...]:
    """The names that the schema's metadata gives to the classes, or none."""
    try:
        features = loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()


def _checked(labels: list[int], names: tuple[str, ...], where: Path) -> tuple[str, ...]:
    """The names of the classes: those given, or their numbers."""
    if any(not isinstance(label, int) or label < 0 for label in labels):
        raise UserError(
            f"{where} has labels that are not whole numbers from 0", "class labels are 0, 1, 2, …"
        )
    most = max(labels, default=-1)
    if names and most >= len(names):
        raise UserError(
            f"{where} has the label {most}, but names for {len(names)} classes only", "download it again"
        )
    return names or tuple(str(i) for i in range(most + 1))


def _split(file: Path) -> int:
    return SPLIT_FOLDERS.get(file.name.split("-")[0].split(".")[0].lower(), TRAIN)
