"""The registered datasets, and the one door to all of them: :func:`load`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmzcli.data.archives import SUFFIXES, stem
from dmzcli.data.cifar import Cifar10
from dmzcli.data.contract import Dataset, Progress, Source
from dmzcli.data.digits import Digits
from dmzcli.data.fashion import FashionMnist
from dmzcli.data.fitting import Fitting
from dmzcli.data.images import NoPicturesError, read_pictures
from dmzcli.errors import UserError, did_you_mean

DEBIAN = Path("/usr/share/datasets")
_SOURCES: dict[str, Source] = {}


def register(source: Source) -> Source:
    """Adds a dataset to the registry.

    Raises:
        TypeError: It is not a :class:`Source`.
        ValueError: Its name is taken or not of small letters, digits and hyphens, or it does not say how
            to get its files.
    """
    if not isinstance(source, Source):
        raise TypeError(f"{source!r} is not a dmzcli.data.Source")
    name = getattr(source, "name", "")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"the dataset name {name!r} is not made of small letters, digits and hyphens")
    if not getattr(source, "how_to_get", ""):
        raise ValueError(f"the dataset {name!r} does not say how to get its files")
    if name in _SOURCES:
        raise ValueError(f"the dataset {name!r} is registered already")
    _SOURCES[name] = source
    return source


for _source in (Cifar10(), Digits(), FashionMnist()):
    register(_source)


def names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_SOURCES)


def cache_folder() -> Path:
    """Where downloads go without ``--data-dir``: ``$DMZ_CACHE/datasets``, or ``~/.cache/dmz/datasets``."""
    root = os.environ.get("DMZ_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "dmz") / "datasets"


def search_folders(data_dir: str | Path | None = None) -> list[Path]:
    """The folders that are searched: ``data_dir`` alone, or the usual ones when it is None."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    return [Path("data"), cache_folder(), DEBIAN]


def status(data_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """Which registered datasets are present.

    Returns:
        One dict per dataset: ``name``, ``present``, ``where`` (a path, or None), ``count`` (of the published
        dataset, or None), ``how_to_get``, and ``problem`` (a sentence, where files are missing; else None).
    """
    rows = []
    for name in names():
        source, where, problem = _SOURCES[name], None, None
        try:
            where = source.find(search_folders(data_dir))
        except UserError as error:
            problem = error.message
        rows.append(
            {
                "name": name,
                "present": where is not None,
                "where": None if where is None else str(where),
                "count": source.count,
                "how_to_get": source.how_to_get,
                "problem": problem,
            }
        )
    return rows


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    size: int | None = None,
    fit: str = "exact",
    channels: int | None = None,
    download: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Loads a dataset whole: a registered one by its name, or pictures by their path.

    Arguments:
        name: A registered name; else a folder or archive of pictures: one below ``data_dir`` (or the usual
            folders), with or without the archive's suffix, or any path.
        data_dir: The folder to search, instead of ``./data``, the cache and Debian's.
        size: The side S of the images in pixels; None keeps theirs.
        fit: How pictures of another size become S×S, see :mod:`dmzcli.data.fitting`.
        channels: 1 or 3 forces grey or colour; None gives 1 where all are grey.
        download: Fetch the files into ``data_dir`` (or the cache) where they are missing.
        progress: Called with (images done, images in all); the second is 0 while it is unknown.

    Returns:
        The dataset; images in the order of the source.

    Raises:
        UserError: Nothing of this name, missing, damaged or foreign files, or pictures that do not fit.
    """
    fitting = Fitting(size, fit, channels)
    report: Progress = progress or (lambda done, total: None)
    if name not in _SOURCES:
        path = _picture_path(name, data_dir)
        try:
            content = read_pictures(path, fitting, report)
        except NoPicturesError as error:
            raise _better_hint(error, path) from error
        return Dataset.of(stem(path.resolve()), content, fit)
    source = _SOURCES[name]
    return Dataset.of(name, source.read(_find(source, data_dir, download), fitting, report), fit)


def _find(source: Source, data_dir: str | Path | None, download: bool) -> Path:
    """Where the source's files are, fetched first where that is needed and asked for."""
    folders = search_folders(data_dir)
    try:
        where = source.find(folders)
    except UserError:  # a part of the files; fetching completes them
        if not download:
            raise
        where = None
    if where is None and download:
        folder = cache_folder() if data_dir is None else folders[0]
        source.download(folder)
        where = source.find([folder])
    if where is not None:
        return where
    if data_dir is not None and not os.path.exists(folders[0]):
        raise UserError(f"the data folder {data_dir} does not exist", "check --data-dir")
    raise UserError(f"{source.name} is not in {', '.join(map(str, folders))}", source.how_to_get)


def _picture_path(name: str, data_dir: str | Path | None) -> Path:
    """The folder or archive that ``name`` stands for.

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
    if own.name != name or name.lower().endswith(SUFFIXES):
        raise UserError(
            f"{name} does not exist", "give a registered dataset, or a folder or archive of pictures"
        )
    known = {*names(), *(found for folder in folders for found in _piles(folder))}
    raise UserError(
        f"unknown dataset '{name}': neither registered, nor a folder or archive in {places} or here",
        f"{did_you_mean(name, known, label='datasets')}; or give the path of a folder or archive",
    )


def _piles(folder: Path) -> list[str]:
    """The names of the folders and archives in ``folder`` that could be meant."""
    try:
        found = list(folder.iterdir())
    except OSError:
        return []
    return [stem(path) for path in found if path.is_dir() or path.name.lower().endswith(SUFFIXES)]


def _better_hint(error: UserError, path: Path) -> UserError:
    """For a path that holds a registered dataset's own files: its name."""
    for source in _SOURCES.values():
        try:
            where = source.find([path])
        except UserError:
            continue
        if where is not None and (where == path or path in where.parents):
            return UserError(
                error.message, f"these are the files of a registered dataset: {source.name} --data-dir {path}"
            )
    return error
