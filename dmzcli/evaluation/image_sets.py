"""Sets of generated images x_i ∈ {0, …, 255}^{H×W×C}, from wherever people keep them.

A folder or archive of pictures, a folder written by ``dmz sample``, an ``.npz`` or ``.npy`` array, or HDF5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dmzcli.data.crops import with_channels
from dmzcli.data.formats.archives import SUFFIXES as ARCHIVES
from dmzcli.data.formats.archives import opened
from dmzcli.data.formats.picture import SUFFIXES, decode
from dmzcli.errors import UserError
from dmzcli.system.arrays import load, load_one
from dmzcli.system.files import read_json
from dmzcli.system.reading import check_regular

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, and how they came to be.

    Attributes:
        images: uint8 (N, H, W, C), C 1 or 3.
        name: The file or folder.
        encoding: ``png``, ``jpeg``, another picture format's suffix, several joined by ``+``, or ``array``.
        lossy: Whether any image went through lossy compression.
        made: What is known of their making (sampler, steps, prior, seed, weights); empty for foreign images.
        resized_from: The side before :func:`fitted_to` resampled them; ``None`` where it did not.
        strata: int64 (N,): the class that each was asked for, where the asking was even; ``None`` where the classes,
            if any, were left to chance.
    """

    images: Array
    name: str
    encoding: str
    lossy: bool = False
    made: Mapping[str, Any] = field(default_factory=dict)
    resized_from: int | None = None
    strata: Array | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sha256(self) -> str:
        """SHA-256 of the pixels, in order."""
        return hashlib.sha256(np.ascontiguousarray(self.images).data).hexdigest()


def read_images(path: Path) -> ImageSet:
    """Reads a set of images.

    Arguments:
        path: A folder or archive of pictures, a folder of ``dmz sample``, an ``.npz``, ``.npy``, ``.h5`` or ``.hdf5``.

    Raises:
        UserError: There is nothing of the kind, the images differ in size, or they are no 8-bit images.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist", "name a folder, archive, .npz, .npy or HDF5 file of images")
    if (path / "plan.json").exists():
        return _own_samples(path)
    suffix = path.suffix.lower()
    if path.is_dir() or path.name.lower().endswith(ARCHIVES):
        return _pictures(path)
    readers = {".npz": _npz, ".npy": _npy, ".h5": _hdf5, ".hdf5": _hdf5}
    if suffix not in readers:
        raise UserError(
            f"{path} is no set of images", "give a folder, archive, .npz, .npy or HDF5 file of images"
        )
    return ImageSet(_as_images(readers[suffix](path), path), str(path), "array")


def _own_samples(path: Path) -> ImageSet:
    if not (path / "samples.json").exists():
        raise UserError(f"{path} is unfinished", "run the same dmz sample again to complete it")
    card = read_json(path / "samples.json")
    arrays = _arrays(path / "samples.npz")
    images = _as_images(_only(arrays, path / "samples.npz"), path / "samples.npz")
    if card.get("count", len(images)) != len(images):
        raise UserError(
            f"{path} has changed while it was read: {len(images)} images, {card['count']} on its card",
            "wait until dmz sample has ended, and run it again",
        )
    strata = arrays.get("labels")
    if strata is not None and (strata.shape != images.shape[:1] or strata.dtype.kind not in "iu"):
        raise UserError(f"{path / 'samples.npz'}: its labels are no classes of its images", "sample anew")
    return ImageSet(images, str(path), str(card.get("encoding", "png")), made=card, strata=strata)


def _pictures(path: Path) -> ImageSet:
    named: list[tuple[str, Array]] = []
    encodings, lossy = set(), False
    with opened(path) as entries:
        for entry in entries:
            suffix = PurePosixPath(entry.name).suffix.lower()
            if entry.folder or suffix not in SUFFIXES:
                continue
            picture, compressed = decode(entry.read(), f"{path}/{entry.name}")
            if named and picture.shape[:2] != named[0][1].shape[:2]:
                raise UserError(
                    f"{path}/{entry.name} has {picture.shape[1]} × {picture.shape[0]} pixels, "
                    f"{named[0][0]} has {named[0][1].shape[1]} × {named[0][1].shape[0]}",
                    "one set has images of one size",
                )
            named.append((entry.name, picture))
            encodings.add("jpeg" if suffix in (".jpg", ".jpeg", ".jpe", ".jfif") else suffix[1:])
            lossy |= compressed
    if not named:
        raise UserError(f"{path} holds no pictures", "expected files such as *.png in it")
    named.sort(key=lambda item: item[0].split("/"))
    channels = max(picture.shape[2] for _, picture in named)
    images = np.stack([with_channels(picture, channels) for _, picture in named])
    return ImageSet(images, str(path), "+".join(sorted(encodings)), lossy)


def _npz(path: Path) -> Array:
    return _only(_arrays(path), path)


def _arrays(path: Path) -> dict[str, Array]:
    try:
        loaded = load(path)
    except ValueError as error:
        raise UserError(f"{path} is no whole .npz of arrays: {error}", "write it anew") from error
    return {"images": loaded} if isinstance(loaded, np.ndarray) else loaded


def _npy(path: Path) -> Array:
    try:
        return load_one(path)
    except ValueError as error:
        raise UserError(f"{path} is no whole .npy array: {error}", "write it anew") from error


def _hdf5(path: Path) -> Array:
    import h5py

    from dmzcli.system.columns import own_column, values

    check_regular(path)
    try:
        with h5py.File(path, "r") as file:
            hard = [n for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)]
            arrays = {n: own_column(path, file, n) for n in hard if getattr(file[n], "ndim", 0) >= 3}
            return _only({n: values(path, array) for n, array in arrays.items()}, path)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no readable HDF5 file: it is truncated or damaged", "write it anew"
        ) from error


def _only(arrays: dict[str, Array], path: Path) -> Array:
    """The array of images among several: the one of that name, or the only one that could be."""
    for name in ("images", "samples", "arr_0"):
        if name in arrays:
            return arrays[name]
    could = {name: array for name, array in arrays.items() if array.ndim >= 3}
    if len(could) != 1:
        raise UserError(
            f"{path} holds the arrays {sorted(arrays) or 'none'}, and none is named 'images'",
            "name the array of images 'images'",
        )
    return next(iter(could.values()))


def _as_images(array: Array, path: Path) -> Array:
    if array.dtype != np.uint8:
        raise UserError(
            f"{path} holds {array.dtype} values, not uint8",
            "round the images to 0 … 255 yourself: how that is done is part of the score",
        )
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[3] not in (1, 3) or not len(array):
        raise UserError(
            f"{path} holds an array of shape {array.shape}, not (N, H, W, C) with C 1 or 3",
            "store images as (N, H, W, C), (N, C, H, W), or (N, H, W) if they are gray",
        )
    return np.ascontiguousarray(array)


def fitted_to(images: ImageSet, size: int, channels: int, resize: bool = False) -> ImageSet:
    """Images of the reference's size and channels.

    Arguments:
        images: Images of any size.
        size: The reference's side.
        channels: The reference's channels; gray stored as color, and gray asked for as color, are converted.
        resize: Whether images of another size are resampled (Pillow's antialiased bicubic) instead of refused.

    Raises:
        UserError: The sizes differ and ``resize`` is off, the images are not square, or color would be lost.
    """
    pixels = images.images
    height, width, colors = pixels.shape[1:]
    if colors == 3 and channels == 1:
        if not (pixels == pixels[..., :1]).all():
            raise UserError(
                f"{images.name} holds color images, the reference is gray",
                "compare it with a dataset in color",
            )
        pixels = pixels[..., :1]
    pixels = with_channels(pixels, channels)
    if (height, width) == (size, size):
        return replace(images, images=pixels)
    if not resize:
        raise UserError(
            f"{images.name} holds images of {width} × {height} pixels, the reference has {size} × {size}",
            "generate them at the reference's size, or resample them with --resize",
        )
    if height != width:
        raise UserError(f"{images.name} holds images of {width} × {height} pixels, not squares", "crop them")
    return replace(images, images=_resampled(pixels, size), resized_from=height)


def _resampled(images: Array, size: int) -> Array:
    from dmzcli.data.crops import Crop

    return Crop(size, "resize").apply_all(images, "an image")
