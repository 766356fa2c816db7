"""The one door to all datasets, by their registered name or by a path: :func:`load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dmzcli.data import registry
from dmzcli.data.crops import Crop
from dmzcli.data.dataset import Dataset, Progress
from dmzcli.data.formats.archives import FILES, SUFFIXES, stem
from dmzcli.data.locate import Location, PictureLocation, locate_path, locate_source
from dmzcli.data.packs import is_pack
from dmzcli.data.prepare import Prepared, cached
from dmzcli.data.prepare import prepare as prepare_location
from dmzcli.data.registry import cache_folder, find_files, search_folders, source_of
from dmzcli.data.sources.edges import Pairs
from dmzcli.data.sources.folder import NoPicturesError
from dmzcli.errors import UserError, did_you_mean

PATHS = "a folder or archive of pictures, or a .parquet, .npz, .npy or .h5 file"


def find(
    name: str, data_dir: str | Path | None = None, side: str | None = None, download: bool = False
) -> Location:
    """Where a dataset lies and what reads it; the arguments are those of :func:`load`.

    Raises:
        UserError: Nothing of this name, or missing files.
    """
    if name in registry.names():
        return locate_source(source_of(name), _place(name, data_dir, download), side)
    return locate_path(_picture_path(name, data_dir), side)


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    size: int | None = None,
    fit: str = "exact",
    channels: int | None = None,
    side: str | None = None,
    download: bool = False,
    skip_bad: bool = False,
    cache: bool = False,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """Loads a dataset: a registered one by its name; pictures, arrays or an image pack by their path.

    Arguments:
        name: A registered name; else a folder or archive of pictures, a ``.parquet``, ``.npz`` or ``.npy`` file or an
            image pack: one below ``data_dir`` (or the usual folders), with or without an archive's suffix, or any path.
        data_dir: The folder to search, instead of ``./data``, the cache and Debian's.
        size: The side S of the images in pixels; None keeps theirs.
        fit: The rule by which pictures of another size become S×S, see :mod:`dmzcli.data.crops`.
        channels: 1 or 3 forces gray or color; None gives 1 where all are gray.
        side: ``A`` or ``B`` of pictures that hold pairs, see :mod:`dmzcli.data.sources.edges`.
        download: Fetch the files into ``data_dir`` (or the cache) where they are missing.
        skip_bad: Leave pictures out that cannot be read, and count them in the dataset's ``notes``.
        cache: Prepare pictures once, see :mod:`dmzcli.data.prepare`; else they are decoded into memory.
        progress: Called with (images done, images in all); the second is 0 while it is unknown.
        say: Told where the cache is.

    Returns:
        The dataset; images in the order of the source. Those of packs and of the cache stay on the disk until used.

    Raises:
        UserError: Nothing of this name, missing, damaged or foreign files, or pictures that do not fit.
    """
    crop = Crop(size, fit, channels)
    report: Progress = progress or (lambda done, total: None)
    location = find(name, data_dir, side, download)
    with _better_hints(location.where):
        if cache and isinstance(location, PictureLocation):
            return cached(location, crop, skip_bad, report, say or (lambda message: None))
        return location.load(crop, report, skip_bad)


def load_pairs(name: str, **options: Any) -> Pairs:
    """Loads both sides of a dataset of pairs; the options are those of :func:`load`, without ``side``.

    Raises:
        UserError: As :func:`load`.
    """
    return Pairs(load(name, side="A", **options), load(name, side="B", **options))


def prepare(
    name: str,
    out: Path,
    *,
    data_dir: str | Path | None = None,
    size: int | None = None,
    fit: str = "exact",
    channels: int | None = None,
    side: str | None = None,
    download: bool = False,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Prepared:
    """Writes the image pack of a dataset; the arguments are those of :func:`load`.

    Raises:
        UserError: As :func:`load`; or the disk is full.
        Interrupted: SIGINT or SIGTERM came; what was decoded is kept.
    """
    crop = Crop(size, fit, channels)
    location = find(name, data_dir, side, download)
    if out.exists() and location.where.exists() and out.samefile(location.where):
        raise UserError(f"{out} is the dataset itself", "name another file with --out")
    if out.exists() and not is_pack(out):
        raise UserError(
            f"{out} is there already, and no image pack", "name another file with --out, or remove it"
        )
    with _better_hints(location.where):
        return prepare_location(location, out, crop, skip_bad, progress or (lambda done, total: None), say)


def _place(name: str, data_dir: str | Path | None, download: bool) -> Path:
    """Where a registered dataset's files are, fetched first where that is needed and asked for."""
    source, folders = source_of(name), search_folders(data_dir)
    try:
        where = find_files(name, folders)
    except UserError:  # a part of the files; fetching completes them
        if not download:
            raise
        where = None
    if where is None and download:
        folder = cache_folder() if data_dir is None else folders[0]
        source.download(folder)
        where = find_files(name, [folder])
    if where is not None:
        return where
    if data_dir is not None and not os.path.exists(folders[0]):
        raise UserError(f"the data folder {data_dir} does not exist", "check --data-dir")
    raise UserError(f"{name} is not in {', '.join(map(str, folders))}", source.how_to_get)


def _picture_path(name: str, data_dir: str | Path | None) -> Path:
    """The folder, archive or file that ``name`` stands for.

    Looked for in ``data_dir``, then at its own path; without ``data_dir``, at its own path, then in the
    usual folders.
    """
    own = Path(name).expanduser()
    folders = search_folders(data_dir)
    bases = [Path(), *folders] if data_dir is None else [*folders, Path()]
    for base in bases:
        for suffix in ("", *SUFFIXES):
            path = base / f"{own}{suffix}"
            if name and os.path.exists(path):
                return path
    places = ", ".join(str(folder) for folder in folders)
    if own.name != name or name.lower().endswith(SUFFIXES + FILES):
        raise UserError(f"{name} does not exist", f"give a registered dataset, or {PATHS}")
    known = {*registry.names(), *(pile for folder in folders for pile in _piles(folder))}
    raise UserError(
        f"unknown dataset '{name}': neither registered, nor a folder or archive in {places} or here",
        f"{did_you_mean(name, known, label='datasets')}; or give the path of a folder or archive",
    )


def _piles(folder: Path) -> list[str]:
    """The names of the folders and archives in ``folder`` that could be meant."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    return [stem(path) for path in paths if path.is_dir() or path.name.lower().endswith(SUFFIXES)]


@contextmanager
def _better_hints(path: Path) -> Iterator[None]:
    """Where a path without pictures holds a registered dataset's own files, says its name."""
    try:
        yield
    except NoPicturesError as error:
        for name in registry.names():
            try:
                where = find_files(name, [path])
            except UserError:
                continue
            if where is not None and (where == path or path in where.parents):
                hint = f"these are the files of a registered dataset: {name} --data-dir {path}"
                raise UserError(error.message, hint) from error
        raise
