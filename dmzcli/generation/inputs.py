"""What is translated: a picture, a folder of pictures, or a split of a set of pairs, whose targets are then known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.config import DataConfig
from dmzcli.data import Dataset
from dmzcli.data.crops import Crop, with_channels
from dmzcli.data.dataset import spread
from dmzcli.data.formats.archives import stem
from dmzcli.data.formats.picture import SUFFIXES, decode
from dmzcli.data.locate import has_sides
from dmzcli.data.registry import names as registered
from dmzcli.data.sources.edges import Pairs, half
from dmzcli.data.sources.folder import pictures_of
from dmzcli.errors import UserError
from dmzcli.runs.find import same_dataset
from dmzcli.runs.pair import PairOfRuns
from dmzcli.runs.plan import images_for
from dmzcli.system.reading import read_bytes

Array = np.ndarray
Load = Callable[[DataConfig], Dataset]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Images to translate.

    Attributes:
        name: A short name, for folders.
        images: uint8 (N, H, W, C).
        identity: Of the dataset that they are from, or the picture's path.
        split: The split of a set of pairs; ``None`` where all pictures are taken.
        index: int64 (N,), positions in the dataset.
        names: The N names that they have at their source, where they have any.
        targets: uint8 (N, H′, W′, C′), what each belongs to; ``None`` where that is not known.
    """

    name: str
    images: Array
    identity: str
    split: str | None
    index: Array
    names: tuple[str, ...] | None = None
    targets: Array | None = None

    def __len__(self) -> int:
        return len(self.images)


def is_picture_file(name: str) -> bool:
    """Whether a name is that of one picture's file."""
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).is_dir()


def holds_pairs(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether a dataset is one of pairs: a registered one, or pictures of which the first is twice as wide as high."""
    if name in registered():
        return has_sides(name)
    path = Path(name).expanduser()
    place = path if path.exists() or data_dir is None else Path(data_dir) / path
    if not place.exists() or place.suffix.lower() in (".h5", ".hdf5", ".npz", ".npy", ".parquet"):
        return False
    try:
        with pictures_of(place) as pictures:
            item = next(iter(pictures.items))
            picture, _ = decode(item.read(), f"{place}/{item.name}")
    except (UserError, StopIteration):  # reading it says what is wrong
        return False
    return picture.shape[1] == 2 * picture.shape[0]


def pair_data(
    pair: PairOfRuns, name: str | None, settings: Sequence[str], flags: Mapping[str, Any]
) -> tuple[DataConfig, DataConfig]:
    """How both runs read a set of pairs: their own, or another one.

    Raises:
        UserError: The set holds no pairs, or a setting is none of the data.
    """
    runs = (pair.a, pair.b)
    own = name is None or all(same_dataset(run.config.data.dataset, name) for run in runs)
    if not own and name is not None and not holds_pairs(name, flags.get("data_dir")):
        raise UserError(
            f"{name} holds no pairs", "name pictures that hold two side by side, A left and B right"
        )
    data = []
    for side, run in zip("AB", runs, strict=True):
        cut = [] if own else [f"data.side={side}"]
        data.append(images_for(run, None if own else name, [*settings, *cut], flags))
    return data[0], data[1]


def load_pairs(data: tuple[DataConfig, DataConfig], load: Load) -> Pairs:
    """Both sides of a set of pairs.

    Raises:
        UserError: Their rows do not belong together.
    """
    return Pairs(load(data[0]), load(data[1]))


def of_pairs(pairs: Pairs, direction: str, split: str, count: int | None) -> Inputs:
    """A split of a set of pairs; ``count`` at most, evenly spread.

    Raises:
        UserError: There is no such split, or it is empty.
    """
    source, target = (pairs.a, pairs.b) if direction == "A-to-B" else (pairs.b, pairs.a)
    rows = source.rows(split)
    if not len(rows):
        raise UserError(f"the split '{split}' of {source.name} is empty", "choose another --split")
    rows = rows if count is None else spread(rows, count)
    names = None if source.names is None else tuple(source.names[row] for row in rows)
    return Inputs(
        source.name, source.images[rows], source.identity, split, rows, names, np.asarray(target.images[rows])
    )


def of_picture(path: Path, data: DataConfig, direction: str) -> Inputs:
    """One picture; of one that is twice as wide as high the half that is translated, the other as its target.

    Arguments:
        path: The file.
        data: How the run that is translated from reads images; without ``channels`` the picture keeps its own.
        direction: ``A-to-B`` or ``B-to-A``.

    Raises:
        UserError: The file is missing, damaged, or of another size.
    """
    picture, _ = decode(read_bytes(path), str(path))
    target, label = None, str(path)
    side = data.side or (direction[0] if picture.shape[1] == 2 * picture.shape[0] else None)
    if side is not None:
        target = half("B" if side == "A" else "A")(picture, label) if data.side is None else None
        picture, label = half(side)(picture, label), f"one half of {label}"
    image = Crop(data.size, data.fit, data.channels).apply(picture, label)
    image = image if data.channels is None else with_channels(image, data.channels)
    targets = None if target is None else target[None]
    return Inputs(path.stem, image[None], str(path), None, np.zeros(1, np.int64), (path.name,), targets)


def read_inputs(
    pair: PairOfRuns,
    direction: str,
    name: str | None,
    split: str,
    count: int | None,
    settings: Sequence[str],
    flags: Mapping[str, Any],
    load: Load,
) -> Inputs:
    """Reads what is to be translated.

    Arguments:
        pair: The pair of runs.
        direction: ``A-to-B`` or ``B-to-A``.
        name: A picture's file, a folder or archive or another dataset, or ``None`` for the pair's own set.
        split: The split of a set of pairs; of other pictures all are taken.
        count: Inputs at most, evenly spread; ``None`` for all.
        settings: ``data.key=value`` entries.
        flags: Entries of the ``[data]`` table.
        load: Reads a dataset.

    Raises:
        UserError: There is nothing of this name, or its pictures are not of the side that is translated from.
    """
    source, _ = pair.sides(direction)
    cut = any(setting.startswith("data.side=") for setting in settings)
    own = name is None or all(same_dataset(run.config.data.dataset, name) for run in (pair.a, pair.b))
    if not cut and (
        own or (not is_picture_file(str(name)) and holds_pairs(str(name), flags.get("data_dir")))
    ):
        return of_pairs(load_pairs(pair_data(pair, name, settings, flags), load), direction, split, count)
    assert name is not None or cut
    data = images_for(source, name, settings, flags)
    side = data.side if cut else None
    colors = data.channels if any(setting.startswith("data.channels=") for setting in settings) else None
    data = data.model_copy(update={"channels": colors, "side": side})
    if name is not None and is_picture_file(name):
        inputs = of_picture(Path(name).expanduser(), data, direction)
    else:
        dataset = load(data)
        rows = np.arange(len(dataset), dtype=np.int64)
        rows = rows if count is None else spread(rows, count)
        names = None if dataset.names is None else tuple(dataset.names[row] for row in rows)
        inputs = Inputs(stem(Path(dataset.name)), dataset.images[rows], dataset.identity, None, rows, names)
    _check_colors(inputs, source.config.data.channels, direction)
    return inputs


def _check_colors(inputs: Inputs, expected: int | None, direction: str) -> None:
    """Raises UserError where inputs are in color and the encoder's images gray, or the other way round."""
    given = inputs.images.shape[3]
    if expected is not None and given != expected:
        words = {1: "gray", 3: "in color"}
        raise UserError(
            f"{inputs.identity} is {words[given]}, and side {direction[0]} of the pair is {words[expected]}",
            f"--set data.channels={expected} converts it; or the sides are swapped, and --direction is the other",
        )
