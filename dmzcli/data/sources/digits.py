"""Handwritten digits: 1,797 gray images of 8×8 pixels, 10 classes, inside scikit-learn.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49 (its test part).  Pixels are counts v ∈ {0, …, 16}; an image holds
round(255 v / 16).  There is no official split: 400 images are held out for test and 200 for valid,
stratified by class and fixed for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmzcli.data.crops import Crop
from dmzcli.data.dataset import Content, Progress, Source
from dmzcli.data.splits import TEST, TRAIN, VALID, hold_out, numbered


class Digits(Source):
    """scikit-learn's digits: 1,197 train, 200 valid, 400 test."""

    name = "digits"
    summary = "handwritten digits, gray, 8×8, inside scikit-learn"
    how_to_get = "nothing to do: it is part of scikit-learn"
    count = 1797

    def find(self, folders: Sequence[Path]) -> Path | None:
        from importlib.util import find_spec

        package = find_spec("sklearn")
        return Path(package.origin).parent if package and package.origin else None

    def read(self, where: Path, crop: Crop, progress: Progress) -> Content:
        from sklearn.datasets import load_digits

        values, labels = load_digits(return_X_y=True)
        images = np.rint(values.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        labels = labels.astype(np.int64)
        keys = np.array(numbered(self.name, len(labels)))
        split = np.full(len(labels), TRAIN, np.uint8)
        for code, count in ((TEST, 400), (VALID, 200)):
            left = np.flatnonzero(split == TRAIN)
            split[left[hold_out(keys[left].tolist(), labels[left], count)]] = code
        progress(len(images), len(images))
        return Content(crop.apply_all(images, "digits"), split, labels, label_names=tuple("0123456789"))

    def download(self, folder: Path) -> None:
        """Nothing to fetch."""
