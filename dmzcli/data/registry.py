"""The registered datasets by name: the built-in ones, and those of other packages.

A package adds a dataset by calling :func:`register`, or by an entry point of the group ``dmz.datasets`` whose name is
the dataset's and whose value is a class of :class:`~dmzcli.data.dataset.Source`. Entry points are loaded when they are
asked for, so a broken package breaks only its own dataset; a built-in dataset cannot be replaced.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from dmzcli.data.dataset import Source
from dmzcli.data.sources.celeba import CelebA
from dmzcli.data.sources.cifar10 import Cifar10
from dmzcli.data.sources.digits import Digits
from dmzcli.data.sources.edges import Edges2Handbags, Edges2Shoes
from dmzcli.data.sources.faces import CelebaHq, Ffhq
from dmzcli.data.sources.fashion_mnist import FashionMnist
from dmzcli.data.sources.shapes import Shapes
from dmzcli.errors import UserError
from dmzcli.system.files import cache_root
from dmzcli.system.registry import Registry

BUILT_IN = (CelebA, CelebaHq, Cifar10, Digits, Edges2Handbags, Edges2Shoes, FashionMnist, Ffhq, Shapes)
DEBIAN = Path("/usr/share/datasets")
S = TypeVar("S", bound=Source | type[Source])


def check(source: Any) -> Source:
    """A dataset's source, made of its class where that is given.

    Raises:
        TypeError: It is not a :class:`Source`, or leaves a method open.
        ValueError: Its name is not of small letters, digits and hyphens, or it does not say in one line each what it
            is and how to get its files.
    """
    if isinstance(source, type) and issubclass(source, Source):
        if inspect.isabstract(source):
            missing = ", ".join(sorted(source.__abstractmethods__))
            raise TypeError(f"{source.__name__} does not define {missing}")
        source = source()
    if not isinstance(source, Source):
        raise TypeError(f"{source!r} is not a dmzcli.data.Source")
    name = getattr(source, "name", "")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"the dataset name {name!r} is not made of small letters, digits and hyphens")
    for attribute, meaning in (("summary", "what it is"), ("how_to_get", "how to get its files")):
        text = getattr(source, attribute, "")
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise ValueError(f"the dataset {name!r} does not say {meaning} in one line of {attribute}")
    return source


SOURCES: Registry[Source] = Registry("dataset", check)
names, source_of = SOURCES.names, SOURCES.get


def register(source: S) -> S:
    """Adds a dataset to the registry; usable as a decorator of its class.

    Returns:
        What was given.

    Raises:
        TypeError, ValueError: As :func:`check`; or the name is taken.
    """
    SOURCES.add(source)
    return source


for _source in BUILT_IN:
    register(_source)


def cache_folder() -> Path:
    """Where downloads go without ``--data-dir``: ``$DMZ_CACHE/datasets``, or ``~/.cache/dmz/datasets``."""
    return cache_root() / "datasets"


def search_folders(data_dir: str | Path | None = None) -> list[Path]:
    """The folders that are searched: ``data_dir`` alone, or the usual ones when it is None."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    return [Path("data"), cache_folder(), DEBIAN]


def find_files(name: str, folders: Sequence[Path]) -> Path | None:
    """Where a registered dataset's files are; None where they are not.

    Raises:
        UserError: Some of them are missing, or the package that the dataset comes from is broken.
    """
    source = source_of(name)
    try:
        return source.find(folders)
    except UserError:
        raise
    except Exception as error:
        if isinstance(source, BUILT_IN):
            raise
        raise UserError(
            f"the dataset '{name}' cannot be looked for: {error}", "repair or remove its package"
        ) from error


def status(data_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """Which registered datasets are present.

    Returns:
        One dict per dataset: ``name``, ``summary``, ``present``, ``where`` (a path, or None), ``count`` (of the
        published dataset, or None), ``how_to_get``, and ``problem`` (a sentence, where files are missing or the
        dataset's package is broken; else None).
    """
    rows = []
    for name in names():
        row: dict[str, Any] = {"name": name, "summary": "", "present": False, "where": None, "count": None}
        row |= {"how_to_get": "", "problem": None}
        try:
            source = source_of(name)
            row |= {"summary": source.summary, "count": source.count, "how_to_get": source.how_to_get}
            where = find_files(name, search_folders(data_dir))
            row |= {"present": where is not None, "where": None if where is None else str(where)}
        except UserError as error:
            row["problem"] = error.message
            row["how_to_get"] = row["how_to_get"] or error.hint
        rows.append(row)
    return rows
