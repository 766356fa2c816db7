"""CIFAR-10: 60,000 color images of 32×32 pixels, 10 classes.

A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.  Both official forms are read, archive or folder: the binary
one (records of a label byte and 3×32×32 bytes), and the Python one (through :mod:`dmzcli.data.formats.cifar_pickle`,
never through plain pickle).  Train and test are official; valid is held out of the official train,
stratified by class and fixed: 5,000 of 50,000 (one in ten).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from dmzcli.data.crops import Crop
from dmzcli.data.dataset import Content, Progress, Source
from dmzcli.data.formats.archives import opened
from dmzcli.data.formats.cifar_pickle import read_batch
from dmzcli.data.sources.download import through_torchvision
from dmzcli.data.splits import TEST, TRAIN, VALID, hold_out, numbered
from dmzcli.errors import UserError

BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
BINARY = tuple(f"{name}.bin" for name in BATCHES)
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar-10-python.tar", "cifar-10-binary.tar")
_PIXELS = 3 * 32 * 32
_AGAIN = "download it again from www.cs.toronto.edu/~kriz/cifar.html"


class Cifar10(Source):
    """CIFAR-10 from its official archives or folders."""

    name = "cifar10"
    summary = "color photographs, 32×32, of 10 classes"
    how_to_get = (
        "dmz data show cifar10 --download, or cifar-10-python.tar.gz or cifar-10-binary.tar.gz of "
        "www.cs.toronto.edu/~kriz/cifar.html in a folder named by --data-dir"
    )
    count = 60_000
    label_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def find(self, folders: Sequence[Path]) -> Path | None:
        partial: tuple[Path, list[str]] | None = None
        for place in _places(folders):
            if place.is_file() and place.name in ARCHIVES:
                return place
            for files in (BATCHES, BINARY):
                missing = [name for name in files if not (place / name).is_file()]
                if not missing:
                    return place
                if len(missing) < len(files) and partial is None:
                    partial = place, missing
        if partial is not None:
            raise UserError(
                f"{partial[0]} holds only a part of CIFAR-10: {', '.join(partial[1])} missing",
                self.how_to_get,
            )
        return None

    def read(self, where: Path, crop: Crop, progress: Progress) -> Content:
        blobs: dict[str, bytes] = {}
        with opened(where) as entries:
            for entry in entries:
                name = PurePosixPath(entry.name).name
                if not entry.folder and name in BATCHES + BINARY:
                    blobs[name] = entry.read()
        files = BINARY if all(name in blobs for name in BINARY) else BATCHES
        missing = [name for name in files if name not in blobs]
        if missing:
            raise UserError(f"{where} holds only a part of CIFAR-10: {', '.join(missing)} missing", _AGAIN)
        parse = _binary_batch if files is BINARY else read_batch
        parts = [parse(blobs.pop(name), f"{where}/{name}") for name in files]
        self._check(parts, [f"{where}/{name}" for name in files])
        images = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
        train = len(labels) - len(parts[-1][1])
        split = np.full(len(labels), TEST, np.uint8)
        split[:train] = TRAIN
        split[hold_out(numbered(self.name, train), labels[:train], train // 10)] = VALID
        progress(len(images), len(images))
        return Content(
            crop.apply_all(np.ascontiguousarray(images), self.name), split, labels, self.label_names
        )

    def _check(self, parts: list[tuple[np.ndarray, np.ndarray]], names: list[str]) -> None:
        """All six batches hold one number of images (10,000 as published), of the ten classes."""
        for (pixels, labels), name in zip(parts, names, strict=True):
            if len(pixels) != len(parts[0][0]) or not len(pixels):
                raise UserError(
                    f"{name} holds {len(pixels):,} images, but {names[0]} {len(parts[0][0]):,}", _AGAIN
                )
            if labels.min() < 0 or labels.max() >= len(self.label_names):
                raise UserError(f"{name} holds labels outside of 0 … 9", _AGAIN)

    def download(self, folder: Path) -> None:
        through_torchvision("CIFAR10", folder, self.how_to_get)


def _places(folders: Sequence[Path]) -> Iterator[Path]:
    """Each folder itself (or archive), then the official names in it and in its subfolder ``cifar10``."""
    for folder in folders:
        yield folder
        for base in (folder, folder / "cifar10"):
            yield from (base / name for name in FOLDERS + ARCHIVES)


def _binary_batch(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 3072) and uint8 (N,) from records of 1 + 3072 bytes."""
    if len(data) % (1 + _PIXELS):
        raise UserError(
            f"{name} is truncated or foreign: {len(data):,} bytes are not whole records of {1 + _PIXELS:,}",
            _AGAIN,
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0]
