"""Fashion-MNIST: 70,000 gray images of 28×28 pixels, 10 classes of clothing.

H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms, 2017, https://arxiv.org/abs/1708.07747.  Train and test are official; valid is held out of the
official train, stratified by class and fixed: 5,000 of 60,000 (one in twelve).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dmzcli.data.crops import Crop
from dmzcli.data.dataset import Content, Progress, Source
from dmzcli.data.formats.idx import read_idx
from dmzcli.data.sources.download import through_torchvision
from dmzcli.data.splits import TEST, TRAIN, VALID, hold_out, numbered
from dmzcli.errors import UserError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MNIST_STARTS = bytes([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5])
"""The first labels of MNIST, whose files carry the same names."""


class FashionMnist(Source):
    """Fashion-MNIST from its four IDX files, gzipped or not, in any of the usual folders."""

    name = "fashion-mnist"
    summary = "clothes, gray, 28×28, of 10 classes"
    how_to_get = (
        "dmz data show fashion-mnist --download, or Debian's package dataset-fashion-mnist, or the four *-ubyte.gz "
        "files of "
        "github.com/zalandoresearch/fashion-mnist in a folder named by --data-dir"
    )
    count = 70_000
    label_names = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip

    def find(self, folders: Sequence[Path]) -> Path | None:
        partial: tuple[Path, list[str]] | None = None
        for folder in _places(folders):
            missing = [name for name in FILES if _file(folder, name) is None]
            if not missing:
                return folder
            if len(missing) < len(FILES) and partial is None:
                partial = folder, missing
        if partial is not None:
            raise UserError(
                f"{partial[0]} holds only a part of Fashion-MNIST: {', '.join(partial[1])} (or .gz) missing",
                self.how_to_get,
            )
        return None

    def read(self, where: Path, crop: Crop, progress: Progress) -> Content:
        train, train_labels = self._part(where, FILES[0], FILES[1])
        if train_labels[: len(_MNIST_STARTS)].tobytes() == _MNIST_STARTS:
            raise UserError(
                f"{where} holds MNIST, whose files have the same names as Fashion-MNIST's", self.how_to_get
            )
        test, test_labels = self._part(where, FILES[2], FILES[3])
        images = np.concatenate([train, test])[..., None]
        labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
        split = np.repeat(np.array([TRAIN, TEST], np.uint8), [len(train), len(test)])
        held = hold_out(numbered(self.name, len(train)), labels[: len(train)], len(train) // 12)
        split[held] = VALID
        progress(len(images), len(images))
        return Content(crop.apply_all(images, self.name), split, labels, self.label_names)

    def _part(self, where: Path, images_name: str, labels_name: str) -> tuple[np.ndarray, np.ndarray]:
        """One official part: uint8 (N, 28, 28) and uint8 (N,)."""
        images_file, labels_file = _file(where, images_name), _file(where, labels_name)
        if images_file is None or labels_file is None:
            raise UserError(f"{where} holds only a part of Fashion-MNIST", self.how_to_get)
        images, labels = read_idx(images_file, rank=3), read_idx(labels_file, rank=1)
        again = "download both files again"
        if images.shape[1:] != (28, 28) or not len(images):
            raise UserError(f"{images_file} holds images of shape {images.shape}, not (N, 28, 28)", again)
        if len(images) != len(labels):
            raise UserError(
                f"{images_file} holds {len(images):,} images, but {labels_file.name} {len(labels):,} labels",
                again,
            )
        if labels.max() >= len(self.label_names):
            raise UserError(f"{labels_file} holds the label {labels.max()}, not 0 … 9", again)
        return images, labels

    def download(self, folder: Path) -> None:
        through_torchvision("FashionMNIST", folder, self.how_to_get)


def _places(folders: Sequence[Path]) -> Iterator[Path]:
    """Each folder itself, a plain subfolder, and torchvision's layout."""
    for folder in folders:
        yield from (
            folder,
            folder / "fashion-mnist",
            folder / "FashionMNIST" / "raw",
            folder / "FashionMNIST",
        )


def _file(folder: Path, name: str) -> Path | None:
    """The file under its name or with a dot for the last hyphen but one; unpacked before gzipped."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / spelling, folder / f"{spelling}.gz"):
            if path.is_file():
                return path
    return None
