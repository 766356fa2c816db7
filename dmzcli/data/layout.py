"""What a tree of pictures says: the order of the images, their splits and their classes.

Below the top (single folders that wrap everything else are looked through) lies either

- ``train/`` with ``valid/`` (or ``val/``, ``validation/``) and ``test/`` where present, or no such folder;
- then class folders, all or none; the label of a class is its position among the sorted folder names.

A missing valid split is held out of train: ⌈10%⌉ of it, at most 5,000 images; likewise a missing test split,
at most 10,000.  Hold-outs are stratified by class and depend on the pictures' paths alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from dmzcli.data.dataset import SPLITS
from dmzcli.data.splits import TEST, TRAIN, VALID, hold_out_missing
from dmzcli.errors import UserError

SPLIT_FOLDERS = {
    "train": TRAIN, "training": TRAIN,
    "valid": VALID, "val": VALID, "validation": VALID,
    "test": TEST, "testing": TEST,
}  # fmt: skip
_Parts = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """The dataset's rows in terms of the listing.

    Arguments:
        order: int64, shape (N,): row i is picture ``order[i]`` of the listing.
        split: uint8, shape (N,).
        labels: int64, shape (N,), or None without classes (or with a single one).
        label_names: The sorted names of the class folders.
        attributes: uint8 of 0 and 1, shape (N, A), or None.
        attribute_names: A names.
    """

    order: np.ndarray
    split: np.ndarray
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    attributes: np.ndarray | None = None
    attribute_names: tuple[str, ...] = ()


def plan(pictures: Sequence[str], folders: Iterable[str], where: Path) -> Layout:
    """Reads a listing.

    Arguments:
        pictures: The relative paths of all pictures, in any order.
        folders: The relative paths of the folders that are known, empty ones among them.
        where: The folder or archive, as errors name it.

    Raises:
        UserError: A path is doubled or not UTF-8, a class or split folder is empty, doubled or out of
            place, some pictures lie in class folders and some do not, a class is missing from train, or
            train is.
    """
    for name in pictures:
        if not name.isascii() and name.encode("utf-8", "replace") != name.encode("utf-8", "surrogateescape"):
            raise UserError(f"{where} holds a path that is not UTF-8: {name!a}", "rename it")
    order = np.array(sorted(range(len(pictures)), key=lambda i: pictures[i].split("/")), np.int64)
    paths = [tuple(pictures[i].split("/")) for i in order]
    for before, after in pairwise(paths):
        if before == after:
            raise UserError(f"{where} holds {'/'.join(after)} twice", "pack the archive again")
    paths, known = _unwrap(paths, {tuple(name.split("/")) for name in folders})
    split, below, spans = _splits(paths, known, where)
    labels, label_names = _classes(below, split, spans, known, where)
    hold_out_missing(split, ["/".join(path) for path in paths], labels)
    return Layout(order, split, labels, label_names)


def _unwrap(paths: list[_Parts], folders: set[_Parts]) -> tuple[list[_Parts], set[_Parts]]:
    """Takes single wrapping folders off, down to the first that has a meaning."""
    while True:
        tops = {path[0] for path in paths} | {folder[0] for folder in folders}
        if len(tops) != 1 or min(map(len, paths)) == 1 or tops.pop().lower() in SPLIT_FOLDERS:
            return paths, folders
        paths = [path[1:] for path in paths]
        folders = {folder[1:] for folder in folders if len(folder) > 1}


def _splits(
    paths: list[_Parts], folders: set[_Parts], where: Path
) -> tuple[np.ndarray, list[_Parts], dict[int, str]]:
    """The split of each path, the paths below the split folders, and those folders' names by code."""
    tops = {path[0] for path in paths if len(path) > 1} | {folder[0] for folder in folders}
    spans: dict[int, str] = {}
    for top in sorted(tops):
        code = SPLIT_FOLDERS.get(top.lower())
        if code is None:
            continue
        if code in spans:
            raise UserError(f"{where} holds both {spans[code]}/ and {top}/", "leave one of them")
        spans[code] = top
    if not spans:
        return np.full(len(paths), TRAIN, np.uint8), paths, spans
    codes = {top: code for code, top in spans.items()}
    for path in paths:
        if len(path) == 1 or path[0] not in codes:
            raise UserError(
                f"{where} holds {'/'.join(path)} beside {', '.join(f'{top}/' for top in spans.values())}",
                "move every picture into train/, valid/ or test/, or rename the folders",
            )
    split = np.array([codes[path[0]] for path in paths], np.uint8)
    if TRAIN not in spans:
        raise UserError(f"{where} holds {spans[min(spans)]}/, but no train/", "add a folder train/")
    for code, top in spans.items():
        if not (split == code).any():
            raise UserError(f"{where}: the folder {top}/ holds no pictures", f"fill {top}/, or remove it")
    return split, [path[1:] for path in paths], spans


def _classes(
    paths: list[_Parts], split: np.ndarray, spans: dict[int, str], folders: set[_Parts], where: Path
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels, from the first folder of each path."""
    loose = [path for path in paths if len(path) == 1]
    if len(loose) == len(paths):
        return None, ()
    if loose:
        raise UserError(
            f"{where}: some pictures lie in class folders, but {loose[0][0]} does not",
            "put every picture into a class folder, or none",
        )
    names = sorted({path[0] for path in paths})
    _check_folders(names, folders, 1 if spans else 0, set(spans.values()), where)
    if len(names) == 1:
        return None, ()
    for code in (VALID, TEST):
        new = {path[0] for path, c in zip(paths, split, strict=True) if c == code} - {
            path[0] for path, c in zip(paths, split, strict=True) if c == TRAIN
        }
        if new:
            raise UserError(
                f"{where}: the class '{min(new)}' is in {spans[code]}/ but not in {spans[TRAIN]}/",
                f"give {SPLITS[code]} the class folders of train",
            )
    position = {name: i for i, name in enumerate(names)}
    return np.array([position[path[0]] for path in paths], np.int64), tuple(names)


def _check_folders(names: list[str], folders: set[_Parts], depth: int, tops: set[str], where: Path) -> None:
    """Refuses class folders that are empty, or that differ in case or Unicode form only."""
    for folder in sorted(folders):
        inside = depth == 0 or folder[0] in tops
        if inside and len(folder) == depth + 1 and folder[depth] not in names:
            raise UserError(
                f"{where}: the class folder {'/'.join(folder)} holds no pictures", "fill it, or remove it"
            )
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold().strip()
        if folded in seen:
            raise UserError(
                f"{where}: the class folders '{seen[folded]}' and '{name}' differ in case or blanks only",
                "join them, or rename one",
            )
        seen[folded] = name
