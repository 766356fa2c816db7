"""Arrays of images: ``.npy``, and ``.npz`` under the usual names.

uint8 of shape (N, H, W), (N, H, W, C) or (N, C, H, W), C in {1, 3}. In a ``.npz``: ``images``, ``arr_0`` or ``x`` with
``labels``, ``arr_1`` or ``y``, and ``split`` where there is one; or each split by itself, as ``train_images`` and
``train_labels`` (``val``, ``test``) or ``x_train`` and ``y_train``. A split that is missing is held out of train.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmzcli.data.crops import Crop
from dmzcli.data.dataset import SPLITS, Content
from dmzcli.data.layout import SPLIT_FOLDERS
from dmzcli.data.splits import TRAIN, hold_out_missing, numbered
from dmzcli.errors import UserError
from dmzcli.system.arrays import load

SUFFIXES = (".npy", ".npz")
_WHOLE = (("images", "labels"), ("arr_0", "arr_1"), ("x", "y"))
_EXPECTED = "expected uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3"


def read_arrays(path: Path, crop: Crop) -> Content:
    """Reads a ``.npy`` or ``.npz`` file.

    Raises:
        UserError: The file is damaged, or its arrays are of another kind.
    """
    arrays = _load(path)
    parts = _parts(arrays, path)
    images = [_images(images, f"{path}, {name}") for _, name, images, _ in parts]
    if len({part.shape[1:] for part in images}) > 1:
        raise UserError(f"{path} holds images of several sizes: {[part.shape for part in images]}", _EXPECTED)
    counts = [len(part) for part in images]
    split = np.repeat(np.array([code for code, *_ in parts], np.uint8), counts)
    given = [
        None if part[3] is None else _labels(part[3], n, path) for part, n in zip(parts, counts, strict=True)
    ]
    known = [part for part in given if part is not None]
    if known and len(known) < len(given):
        raise UserError(f"{path} has labels for some of its splits only", "give all of them labels, or none")
    labels = np.concatenate(known) if known else None
    if "split" in arrays:
        split = _given_split(arrays["split"], len(split), path)
    if not (split == TRAIN).any():
        raise UserError(f"{path} has no training images", "name them train_images, or images")
    hold_out_missing(split, numbered("image", len(split)), labels)
    label_names = () if labels is None else tuple(str(i) for i in range(int(labels.max()) + 1))
    return Content(crop.apply_all(np.concatenate(images), str(path)), split, labels, label_names)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        loaded = load(path)
    except ValueError as error:
        raise UserError(f"{path} is truncated, or no file of NumPy arrays: {error}", _EXPECTED) from error
    return {"images": loaded} if isinstance(loaded, np.ndarray) else loaded


def _parts(arrays: dict[str, np.ndarray], path: Path) -> list[tuple[int, str, np.ndarray, np.ndarray | None]]:
    """(split, name, images, labels) of each part of the dataset, in the order of the splits."""
    for images, labels in _WHOLE:
        if images in arrays:
            return [(TRAIN, images, arrays[images], arrays.get(labels))]
    parts = []
    for spelling, code in SPLIT_FOLDERS.items():
        for images, labels in (
            (f"{spelling}_images", f"{spelling}_labels"),
            (f"x_{spelling}", f"y_{spelling}"),
        ):
            if images in arrays:
                parts.append((code, images, arrays[images], arrays.get(labels)))
    codes = [code for code, *_ in parts]
    if not parts or len(set(codes)) < len(codes):
        what = "no images" if not parts else "two arrays for one split"
        raise UserError(
            f"{path} holds {what}: its arrays are {', '.join(sorted(arrays)) or 'none'}", _EXPECTED
        )
    return sorted(parts, key=lambda part: part[0])


def _images(array: np.ndarray, name: str) -> np.ndarray:
    """uint8 (N, H, W, C)."""
    shape = array.shape
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or 0 in shape:
        raise UserError(f"{name} is {array.dtype} of shape {shape}", _EXPECTED)
    if array.ndim == 3:
        return array[..., None]
    if shape[3] in (1, 3):
        return array
    if shape[1] in (1, 3):
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    raise UserError(f"{name} is {array.dtype} of shape {shape}", _EXPECTED)


def _labels(array: np.ndarray, count: int, path: Path) -> np.ndarray:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.shape != (count,) or flat.dtype.kind not in "iu" or (flat.size and flat.min() < 0):
        raise UserError(
            f"{path} holds labels {array.dtype} of shape {array.shape} for {count:,} images",
            "one whole number from 0 for each image",
        )
    return flat.astype(np.int64)


def _given_split(array: np.ndarray, count: int, path: Path) -> np.ndarray:
    if (
        array.shape != (count,)
        or array.dtype.kind not in "iu"
        or array.min() < 0
        or array.max() >= len(SPLITS)
    ):
        raise UserError(
            f"{path}: split is {array.dtype} of shape {array.shape}", "0 train, 1 valid, 2 test per image"
        )
    return array.astype(np.uint8)
