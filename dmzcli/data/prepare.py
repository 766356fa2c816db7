"""Preparing: pictures to an image pack, in parallel, resumably; and the cache of packs prepared without being asked.

Pictures are decoded in parts of fixed length, and the pack appears only when every part is there. A cached pack is
known by where its pictures lie and how they are fitted; it holds a key made of the files' names, sizes and times, and
is prepared anew where that has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dmzcli.data import packs, registry
from dmzcli.data.crops import Crop, with_channels
from dmzcli.data.dataset import Content, Dataset, Progress, digest, identify
from dmzcli.data.decoding import Decoded, Pictures, Tally, decoded, lay_out
from dmzcli.data.layout import Layout
from dmzcli.data.locate import Location, PictureLocation, locate_path, locate_source
from dmzcli.errors import UserError
from dmzcli.system.files import cache_root, user_errors
from dmzcli.system.hdf5 import attributes
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold, tidy
from dmzcli.system.parts import Parts
from dmzcli.system.reading import loads_object

PART = 1024
"""Pictures per part."""
_OPEN = 64
"""Parts that are open at a time."""


@dataclass(frozen=True)
class Prepared:
    """How preparing ended.

    Attributes:
        dataset: The pack's.
        pictures: Number of pictures read, bad ones among them.
        resumed: Number of these that had been read before.
    """

    dataset: Dataset
    pictures: int
    resumed: int


def key_of(location: Location, crop: Crop, skip_bad: bool) -> str:
    """What changes when a dataset's files or the way to read them do: the SHA-256 of names, sizes and times."""
    return _key(location, crop, skip_bad, [_listing(path) for path in location.files])


def _key(location: Location, crop: Crop, skip_bad: bool, listing: list[list[tuple[str, int, int]]]) -> str:
    way = [location.side, crop.size, crop.fit, crop.channels, skip_bad]
    return hashlib.sha256(json.dumps([packs.KIND.version, location.name, way, listing]).encode()).hexdigest()


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
    location: Location, crop: Crop, skip_bad: bool, report: Progress, say: Callable[[str], None]
) -> Dataset:
    """The pack of a dataset in the cache, prepared where it is missing or its files have changed.

    Raises:
        UserError: As :func:`prepare`.
    """
    listing = [_listing(path) for path in location.files]
    for way in _ways(crop):
        file = _cache_file(location, way, skip_bad)
        if attributes(file).get("key") == _key(location, way, skip_bad, listing):
            dataset = packs.read(file)
            size, channels = dataset.images.shape[2:]
            if crop.size in (None, size) and crop.channels in (None, channels):
                say(f"{location.name}: taking the images prepared in {file}")
                _note_use(file)
                if Parts(file).folder.exists():  # of a call that was killed after its last word
                    with suppress(UserError), hold(file):
                        Parts(file).remove()
                tidy(file)
                return dataset
    file = _cache_file(location, crop, skip_bad)
    say(f"{location.name}: preparing its images once, into {file}")
    try:
        return prepare(location, file, crop, skip_bad, report, say).dataset
    except UserError as error:
        if str(file.parent) not in error.message:
            raise
        raise UserError(error.message, "set DMZ_CACHE to a folder with space for prepared images") from error


def _cache_file(location: Location, crop: Crop, skip_bad: bool) -> Path:
    """Where the pack of a dataset is that is read in one certain way."""
    way = [str(location.where.resolve()), location.side, crop.size, crop.fit, crop.channels, skip_bad]
    digest = hashlib.sha256(json.dumps(way).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return cache_root() / "packs" / f"{location.name}-{digest}.h5"


def _ways(crop: Crop) -> Iterator[Crop]:
    """The ways to have read the same images: a size or channels that are asked for may be what they are anyway."""
    for size in {crop.size, None if crop.fit == "exact" else crop.size}:
        for channels in {crop.channels, None}:
            yield replace(crop, size=size, channels=channels)


def prepare(
    location: Location,
    out: Path,
    crop: Crop,
    skip_bad: bool,
    report: Progress,
    say: Callable[[str], None] | None = None,
) -> Prepared:
    """Writes a dataset's pack; the same call goes on where a killed one stopped, and waits where one goes on.

    Arguments:
        location: The dataset.
        out: The pack's file; replaced when the new one is whole.
        crop: The rule by which pictures become squares.
        skip_bad: Whether pictures that cannot be read are left out.
        report: Called with (images done, images in all).
        say: Told whom it waits for, and what it throws away.

    Raises:
        UserError: A picture is bad or does not fit, or the disk is full.
        Interrupted: SIGINT or SIGTERM came; finished parts are kept.
    """
    key = key_of(location, crop, skip_bad)
    # A pack that is handed on tells nobody where its pictures lay.
    source = _source(location, crop, skip_bad) if out.parent == cache_root() / "packs" else ""
    with hold(out, patience=math.inf, say=say):
        if attributes(out).get("key") == key:  # another process was faster, or was killed after its last word
            if Parts(out).folder.exists():
                Parts(out).remove()
            whole = packs.read(out)
            return Prepared(whole, len(whole), len(whole))
        if not isinstance(location, PictureLocation):
            dataset = location.load(crop, report)
            packs.write(out, dataset, key=key, source=source)
            return Prepared(packs.read(out), len(dataset), 0)
        parts = Parts(out)
        parts.claim({"pictures": key, "part": PART}, say)
        store = _Store(parts)
        resumed = store.pictures
        with location.open() as pictures:
            store.fill(pictures, crop, skip_bad, report)
            layout = lay_out(pictures, store.names, store.tally)
            dataset = store.dataset(location, layout, crop, pictures.notes)
        packs.write(out, dataset, store.images(layout.order), key, source)
        parts.remove()
        return Prepared(packs.read(out), store.pictures, resumed)


def _source(location: Location, crop: Crop, skip_bad: bool) -> str:
    """What a pack is made of, for :func:`unchanged`."""
    way = {"size": crop.size, "fit": crop.fit, "channels": crop.channels, "skip_bad": skip_bad}
    where = str(location.where.resolve())
    text = json.dumps({"name": location.name, "where": where, "side": location.side, **way})
    return text.encode("utf-8", "backslashreplace").decode()


def unchanged(pack: Path) -> bool | None:
    """Whether the files that a pack was made of are still there, as they were; ``None`` where it does not say."""
    facts = attributes(pack)
    if not facts.get("source"):
        return None
    try:
        source = loads_object(str(facts["source"]))
        where, side = Path(source["where"]), source["side"]
        crop, skip_bad = Crop(source["size"], source["fit"], source["channels"]), source["skip_bad"]
        name = source["name"]
    except (ValueError, KeyError, TypeError):  # not as we say it
        return None
    if not where.exists():
        return False
    known = name in registry.names()
    location = locate_source(registry.source_of(name), where, side) if known else locate_path(where, side)
    return key_of(location, crop, skip_bad) == facts.get("key")


def _note_use(pack: Path) -> None:
    """Leaves the time of use on a pack, by which ``dmz cache clean`` knows what is asked for."""
    with suppress(OSError):  # a cache that others own is read, too
        os.utime(pack)


class _Store:
    """The pictures decoded so far, in listing order, on the disk.

    The array of a part is ``images``, uint8 (n, S, S, C); its facts are the images' names, what is wrong with the
    pictures that were left out, and whether any image was lossy.
    """

    def __init__(self, parts: Parts) -> None:
        self.names: list[str] = []
        self.tally = Tally()
        self.pictures, self.channels, self.size, self.lossy = 0, 1, 0, False
        self._parts = parts
        self._ends: list[int] = []
        while len(self._ends) in parts:
            self._count_in()

    def _count_in(self) -> None:
        """Counts the part in that follows those counted."""
        number = len(self._ends)
        facts = self._parts.facts(number)
        names, problems = facts.get("names"), facts.get("problems")
        if not isinstance(names, list) or not isinstance(problems, list):
            raise self._parts.damaged()
        self.names += map(str, names)
        self.tally.problems += map(str, problems)
        self.pictures += len(names) + len(problems)
        self.lossy |= bool(facts.get("lossy"))
        if names:
            images = self._parts.read(number, "images")
            if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(names):
                raise self._parts.damaged()
            if self.size not in (0, images.shape[1]) or images.shape[1] != images.shape[2]:
                raise self._parts.damaged()
            self.size = images.shape[1]
            self.channels = max(self.channels, images.shape[3])
        self._ends.append(len(self.names))

    def _add(self, part: list[Decoded]) -> None:
        good = [(one.name, one.image, one.lossy) for one in part if one.image is not None]
        channels = max((image.shape[2] for _, image, _ in good), default=1)
        images = [with_channels(image, channels) for _, image, _ in good]
        facts = {
            "names": [name for name, _, _ in good],
            "problems": [one.problem for one in part if one.image is None],
            "lossy": any(lossy for _, _, lossy in good),
        }
        self._parts.write(len(self._ends), {"images": np.stack(images)} if images else {}, facts)
        self._count_in()

    def fill(self, pictures: Pictures, crop: Crop, skip: bool, report: Progress) -> None:
        """Decodes the pictures that are not here yet."""
        if self.names and crop.size is None:
            crop = replace(crop, size=self.size, like=f"{pictures.where}/{self.names[0]}")
        part: list[Decoded] = []
        with collected() as signals:
            for one in decoded(pictures, crop, skip, self.pictures):
                part.append(one)
                if len(part) == PART:
                    self._add(part)
                    part = []
                if len(part) % 64 == 0:
                    report(self.pictures + len(part), pictures.total)
                if signals:
                    raise Interrupted(signals[0], "finished parts are kept; run the same command to go on")
            if part:
                self._add(part)
        report(self.pictures, self.pictures)

    def images(self, order: np.ndarray, piece: int = PART) -> Iterator[np.ndarray]:
        """The images by rows, in pieces of (n, S, S, C)."""
        opened: dict[int, np.ndarray] = {}
        for start in range(0, len(order), piece):
            places = order[start : start + piece]
            numbers = np.searchsorted(self._ends, places, side="right")
            rows = np.empty((len(places), self.size, self.size, self.channels), np.uint8)
            for number in np.unique(numbers):
                if number not in opened:
                    opened[number] = self._parts.read(number, "images")
                inside = np.flatnonzero(numbers == number)
                first = self._ends[number - 1] if number else 0
                rows[inside] = with_channels(opened[number][places[inside] - first], self.channels)
            opened = {number: opened[number] for number in list(opened)[-_OPEN:]}
            yield rows

    def dataset(self, location: Location, layout: Layout, crop: Crop, notes: tuple[str, ...]) -> Dataset:
        """What the pack holds; in place of the images stands one gray level."""
        shape = (len(layout.order), self.size, self.size, self.channels)
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
        identity = identify(
            location.name, shape, digest(self.images(layout.order), content), crop.fit, location.side
        )
        return Dataset(
            **vars(content), name=location.name, identity=identity, fit=crop.fit, side=location.side
        )
