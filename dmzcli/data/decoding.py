"""Pictures that are not decoded yet, and their decoding: in parallel, in order, and one bad one by name.

What the sources of pictures have in common is a :class:`Pictures`: named items in one fixed order, and a rule that
says what rows, splits and labels a list of names makes. Decoding is a stream over the items. A picture that cannot
be read stops it with its path, or is counted and left out where the user asked for that; the dataset is then the one
of the files without it.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from dmzcli.data.crops import Crop, with_channels
from dmzcli.data.dataset import Content, Progress, Source
from dmzcli.data.formats.picture import decode
from dmzcli.data.layout import Layout
from dmzcli.errors import UserError

Window = Callable[[np.ndarray, str], np.ndarray]
"""Takes the part of a picture (H, W, C) that is the image; its second argument is what an error calls it."""


@dataclass(frozen=True)
class Item:
    """One picture: its name, and what gives its file's bytes."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a source.

    Arguments:
        where: The folder, archive or file, as errors name it.
        items: The pictures in listing order; gone through once.
        arrange: The rows that a list of names makes.
        total: Number of items; 0 where it is not known beforehand.
        in_turn: Whether an item can be read only until the next one is asked for.
        window: A :data:`Window`, or ``None``.
        channels: Number of channels of the images, where no other is asked for; None keeps the pictures' own.
        notes: Sentences that a person should know, such as where the splits come from.
    """

    where: Path
    items: Iterable[Item]
    arrange: Callable[[list[str]], Layout]
    total: int = 0
    in_turn: bool = False
    window: Window | None = None
    channels: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """One item after decoding: a fitted image uint8 (S, S, C), or what is wrong with it."""

    name: str
    image: np.ndarray | None
    lossy: bool = False
    problem: str = ""


@dataclass
class Tally:
    """What has been left out.

    Arguments:
        skip: Whether bad pictures are left out, instead of stopping everything.
        problems: A sentence for each, in order.
    """

    skip: bool = False
    problems: list[str] = field(default_factory=list)

    def count(self, problem: str) -> None:
        """Notes a bad picture."""
        self.problems.append(problem)

    def notes(self) -> tuple[str, ...]:
        """What to tell of it."""
        if not self.problems:
            return ()
        count = len(self.problems)
        return (f"{count:,} bad picture{'s' * (count > 1)} left out, the first: {self.problems[0]}",)


def workers() -> int:
    """How many threads decode: Pillow lets go of Python's lock while it decodes and resamples."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoded(pictures: Pictures, crop: Crop, skip: bool, start: int = 0) -> Iterator[Decoded]:
    """Decodes and fits the items from number ``start`` on, in their order, some ahead of the reader.

    Arguments:
        pictures: The pictures to decode.
        crop: The crop, whose size may be open for the first picture of all, which then sets it.
        skip: Whether a picture that cannot be read comes without an image, instead of an error.
        start: Number of items to pass over without decoding.

    Raises:
        UserError: A picture cannot be read, or does not fit.
    """
    items = iter(pictures.items)
    for _ in islice(items, start):
        pass
    if crop.size is None:
        for item in items:
            first = _decode(item, None, pictures, crop, skip)
            yield first
            if first.image is not None:
                crop = crop.pinned(first.image, f"{pictures.where}/{item.name}")
                break
    count = workers()
    with ThreadPoolExecutor(count) as pool:
        ahead: deque[Future[Decoded]] = deque()
        try:
            for item in items:
                data = _in_turn(item) if pictures.in_turn else None
                ahead.append(pool.submit(_decode, item, data, pictures, crop, skip))
                if len(ahead) >= 16 * count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _in_turn(item: Item) -> bytes | UserError:
    try:
        return item.read()
    except UserError as error:
        return error


def _decode(
    item: Item, data: bytes | UserError | None, pictures: Pictures, crop: Crop, skip: bool
) -> Decoded:
    name = f"{pictures.where}/{item.name}"
    try:
        if isinstance(data, UserError):
            raise data
        picture, lossy = decode(item.read() if data is None else data, name)
    except UserError as error:
        if skip:
            return Decoded(item.name, None, problem=error.message)
        raise UserError(error.message, f"{error.hint}; --skip-bad leaves bad pictures out") from error
    if pictures.window is not None:
        picture, name = pictures.window(picture, name), f"one half of {name}"
    image = crop.apply(picture, name)
    channels = crop.channels or pictures.channels
    return Decoded(item.name, image if channels is None else with_channels(image, channels), lossy)


def read(pictures: Pictures, crop: Crop, progress: Progress, skip: bool = False) -> Content:
    """Decodes everything into memory.

    Raises:
        UserError: A picture cannot be read or does not fit, or none is left.
    """
    names: list[str] = []
    images: list[np.ndarray | None] = []
    channels, lossy, tally = 1, False, Tally(skip)
    for number, one in enumerate(decoded(pictures, crop, skip), 1):
        if one.image is None:
            tally.count(one.problem)
        else:
            names.append(one.name)
            images.append(one.image)
            channels, lossy = max(channels, one.image.shape[2]), lossy or one.lossy
        if number % 64 == 0:
            progress(number, pictures.total)
    layout = lay_out(pictures, names, tally)
    progress(len(names), len(names))
    size = images[0].shape[0] if images and images[0] is not None else 0
    stacked = np.empty((len(layout.order), size, size, channels), np.uint8)
    for row, place in enumerate(layout.order):
        image, images[place] = images[place], None  # lets go of each as it is copied
        assert image is not None
        stacked[row] = with_channels(image, channels)
    return Content(
        stacked,
        layout.split,
        layout.labels,
        layout.label_names,
        layout.attributes,
        layout.attribute_names,
        lossy,
        tuple(names[place] for place in layout.order),
        pictures.notes + tally.notes(),
    )


def lay_out(pictures: Pictures, names: list[str], tally: Tally) -> Layout:
    """The rows of the pictures that were decoded.

    Raises:
        UserError: All were bad, or those that are left make no dataset.
    """
    if tally.problems and not names:
        raise UserError(
            f"{pictures.where}: all {len(tally.problems):,} pictures are bad, the first: {tally.problems[0]}",
            "check the files",
        )
    return pictures.arrange(names)


class PictureSource(Source):
    """A dataset of picture files that has a name of its own.  A new one implements :meth:`find` and :meth:`open`."""

    sides: ClassVar[tuple[str, ...]] = ()
    """Of a picture that holds a pair: the choices of :class:`~dmzcli.data.sources.edges.Side`; else none."""

    @abstractmethod
    def open(self, where: Path, side: str | None = None) -> AbstractContextManager[Pictures]:
        """The pictures that :meth:`find` found.

        Raises:
            UserError: A list is damaged or foreign.
        """

    def files(self, where: Path) -> tuple[Path, ...]:
        """The files and folders that the dataset is read from; a change in them makes another dataset."""
        return (where,)

    def read(self, where: Path, crop: Crop, progress: Progress) -> Content:
        with self.open(where) as pictures:
            return read(pictures, crop, progress)
