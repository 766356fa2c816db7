"""Preparing: pictures to an image pack, in parallel, resumably; and the cache of packs prepared without being asked.

Pictures are decoded in parts of fixed length. A finished part is two small files in a folder beside the pack, and the
pack appears only when every part is there. A cached pack is known by where its pictures lie and how they are fitted;
it holds a key made of the files' names, sizes and times, and is prepared anew where that has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.data import packs
from dmzcli.data.crops import Fitting, with_channels
from dmzcli.data.dataset import Content, Dataset, Progress, digest, identify
from dmzcli.data.decoding import Pictures, Tally, arranged, decoded
from dmzcli.data.layout import Layout
from dmzcli.data.locate import Found, cache_root
from dmzcli.errors import UserError
from dmzcli.system.files import atomic, read_json, sweep, user_errors, write_json
from dmzcli.system.interrupts import Interrupted, collected

PART = 1024
"""Pictures per part."""


@dataclass(frozen=True)
class Prepared:
    """How preparing ended."""

    dataset: Dataset
    pictures: int
    resumed: int


def key_of(found: Found, fitting: Fitting, skip_bad: bool) -> str:
    """What changes when a dataset's files or the way to read them do: the SHA-256 of names, sizes and times."""
    return _key(found, fitting, skip_bad, [_listing(path) for path in found.files])


def _key(found: Found, fitting: Fitting, skip_bad: bool, listing: list[list[tuple[str, int, int]]]) -> str:
    way = [found.side, fitting.size, fitting.fit, fitting.channels, skip_bad]
    return hashlib.sha256(json.dumps([packs.VERSION, found.name, way, listing]).encode()).hexdigest()


def _listing(path: Path) -> list[tuple[str, int, int]]:
    """(path, bytes, time of change) of a file, or of all files below a folder."""
    rows: list[tuple[str, int, int]] = []

    def note(name: str) -> None:
        facts = os.stat(name)
        rows.append((os.fsencode(name).decode("utf-8", "backslashreplace"), facts.st_size, facts.st_mtime_ns))

    with user_errors(path):
        if not path.is_dir():
            note(str(path.resolve()))
        seen: set[tuple[int, int]] = set()
        for folder, below, files in os.walk(path.resolve(), followlinks=True):
            facts = os.stat(folder)
            if (facts.st_dev, facts.st_ino) in seen:
                below.clear()  # a link back
                continue
            seen.add((facts.st_dev, facts.st_ino))
            for file in files:
                name = os.path.join(folder, file)
                if os.path.exists(name):
                    note(name)
    return sorted(rows)


def cached(
    found: Found, fitting: Fitting, skip_bad: bool, report: Progress, say: Callable[[str], None]
) -> Dataset:
    """The pack of a dataset in the cache, prepared where it is missing or its files have changed.

    Raises:
        UserError: As :func:`prepare`.
    """
    listing = [_listing(path) for path in found.files]
    for way in _ways(fitting):
        file = _cache_file(found, way, skip_bad)
        if packs.attributes(file).get("key") == _key(found, way, skip_bad, listing):
            dataset = packs.read(file)
            size, channels = dataset.images.shape[2:]
            if fitting.size in (None, size) and fitting.channels in (None, channels):
                say(f"{found.name}: taking the images prepared in {file}")
                return dataset
    file = _cache_file(found, fitting, skip_bad)
    say(f"{found.name}: preparing its images once, into {file}")
    try:
        return prepare(found, file, fitting, skip_bad, report).dataset
    except UserError as error:
        if str(file.parent) not in error.message:
            raise
        raise UserError(error.message, "set DMZ_CACHE to a folder with space for prepared images") from error


def _cache_file(found: Found, fitting: Fitting, skip_bad: bool) -> Path:
    """Where the pack of a dataset is that is read in one certain way."""
    way = [str(found.where.resolve()), found.side, fitting.size, fitting.fit, fitting.channels, skip_bad]
    digest = hashlib.sha256(json.dumps(way).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return cache_root() / "packs" / f"{found.name}-{digest}.h5"


def _ways(fitting: Fitting) -> Iterator[Fitting]:
    """The ways to have read the same images: a size or channels that are asked for may be what they are anyway."""
    for size in {fitting.size, None if fitting.fit == "exact" else fitting.size}:
        for channels in {fitting.channels, None}:
            yield replace(fitting, size=size, channels=channels)


def prepare(found: Found, out: Path, fitting: Fitting, skip_bad: bool, report: Progress) -> Prepared:
    """Writes a dataset's pack; the same call goes on where a killed one stopped.

    Arguments:
        found: The dataset.
        out: The pack's file; replaced when the new one is whole.
        fitting: How pictures become squares.
        skip_bad: Whether pictures that cannot be read are left out.
        report: Told of the progress.

    Raises:
        UserError: A picture is bad or does not fit, or the disk is full.
        Interrupted: SIGINT or SIGTERM came; finished parts are kept.
    """
    key = key_of(found, fitting, skip_bad)
    with _alone(out):
        if packs.attributes(out).get("key") == key:  # another process was faster
            whole = packs.read(out)
            return Prepared(whole, len(whole), len(whole))
        sweep(out)
        if found.open is None:
            dataset = found.load(fitting, report)
            packs.write(out, dataset, key=key)
            return Prepared(packs.read(out), len(dataset), 0)
        parts = _Parts(out.parent / f".{out.name}.parts", key)
        with found.open() as pictures:
            resumed = parts.pictures
            parts.fill(pictures, fitting, skip_bad, report)
            layout = arranged(pictures, parts.names, parts.tally)
            dataset = parts.dataset(found, layout, fitting, pictures.notes)
        packs.write(out, dataset, parts.images(layout.order), key)
        shutil.rmtree(parts.folder)
        return Prepared(packs.read(out), parts.pictures, resumed)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One process at a time prepares ``out``; the others wait."""
    import fcntl

    lock = out.parent / f".{out.name}.lock"
    while True:
        with user_errors(lock):
            out.parent.mkdir(parents=True, exist_ok=True)
            stream = lock.open("w")
        fcntl.flock(stream, fcntl.LOCK_EX)
        if lock.exists() and lock.stat().st_ino == os.fstat(stream.fileno()).st_ino:
            break
        stream.close()  # whoever held it has removed it
    with stream:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


class _Parts:
    """The pictures decoded so far, in listing order, on the disk.

    Part k is ``k.npy``, its images uint8 (n, S, S, C), and ``k.json``, written last: the names of the images, what is
    wrong with the pictures that were left out, and whether any image was lossy.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.names: list[str] = []
        self.tally = Tally()
        self.pictures, self.channels, self.lossy = 0, 1, False
        self.count = 0
        self._ends: list[int] = []
        self._shape: tuple[int, ...] = (0, 0, 0)
        header = folder / "preparing.json"
        if not header.exists() or read_json(header) != {"key": key, "part": PART}:
            with user_errors(folder):
                if folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir(parents=True)
            write_json(header, {"key": key, "part": PART})
        while self._facts(self.count).exists():
            self._take(read_json(self._facts(self.count)))

    def _facts(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"

    def _take(self, facts: dict[str, Any]) -> None:
        """Counts a finished part."""
        self.names += facts["names"]
        self.tally.problems += facts["problems"]
        self.pictures += len(facts["names"]) + len(facts["problems"])
        self.lossy |= facts["lossy"]
        if facts["names"]:
            self._shape = tuple(facts["shape"])
            self.channels = max(self.channels, self._shape[2])
        self._ends.append(len(self.names))
        self.count += 1

    def fill(self, pictures: Pictures, fitting: Fitting, skip: bool, report: Progress) -> None:
        """Decodes the pictures that are not here yet."""
        if self.names and fitting.size is None:
            fitting = replace(fitting, size=self._shape[0], like=f"{pictures.where}/{self.names[0]}")
        images: list[np.ndarray] = []
        names: list[str] = []
        problems: list[str] = []
        lossy = False

        def finish() -> None:
            nonlocal images, names, problems, lossy
            if images:
                channels = max(image.shape[2] for image in images)
                with atomic(self._file(self.count)) as temporary, temporary.open("wb") as stream:
                    np.save(stream, np.stack([with_channels(image, channels) for image in images]))
                shape = [*images[0].shape[:2], channels]
            else:
                shape = []
            facts = {"names": names, "problems": problems, "lossy": lossy, "shape": shape}
            write_json(self._facts(self.count), facts)
            self._take(facts)
            images, names, problems, lossy = [], [], [], False

        with collected() as signals:
            for one in decoded(pictures, fitting, skip, self.pictures):
                if one.image is None:
                    problems.append(one.problem)
                else:
                    images.append(one.image)
                    names.append(one.name)
                    lossy |= one.lossy
                here = len(names) + len(problems)
                if here == PART:
                    finish()
                    here = 0
                if here % 64 == 0:
                    report(self.pictures + here, pictures.total)
                if signals:
                    raise Interrupted(signals[0], "finished parts are kept; run the same command to go on")
            if names or problems:
                finish()
        report(self.pictures, self.pictures)

    def images(self, order: np.ndarray, piece: int = PART) -> Iterator[np.ndarray]:
        """The images by rows, in pieces of (n, S, S, C)."""
        size = self._shape[0]
        opened: dict[int, np.ndarray] = {}
        for start in range(0, len(order), piece):
            places = order[start : start + piece]
            parts = np.searchsorted(self._ends, places, side="right")
            made = np.empty((len(places), size, size, self.channels), np.uint8)
            for number in np.unique(parts):
                if number not in opened:
                    opened[number] = np.load(self._file(number), mmap_mode="r")
                inside = np.flatnonzero(parts == number)
                first = self._ends[number - 1] if number else 0
                made[inside] = with_channels(opened[number][places[inside] - first], self.channels)
            opened = {number: opened[number] for number in list(opened)[-64:]}
            yield made

    def dataset(self, found: Found, layout: Layout, fitting: Fitting, notes: tuple[str, ...]) -> Dataset:
        """What the pack holds; in place of the images stands one grey level."""
        shape = (len(layout.order), *self._shape[:2], self.channels)
        content = Content(
            np.broadcast_to(np.uint8(0), shape),
            layout.split,
            layout.labels,
            layout.label_names,
            layout.attributes,
            layout.attribute_names,
            self.lossy,
            tuple(self.names[place] for place in layout.order),
            notes + self.tally.notes(),
        )
        made = digest(self.images(layout.order), content)
        identity = identify(found.name, shape, made, fitting.fit, found.side)
        return Dataset(**vars(content), name=found.name, identity=identity, fit=fitting.fit, side=found.side)
