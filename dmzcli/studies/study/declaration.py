"""What a study is: settings that all trainings share, axes whose product they are, seeds, and what to measure.

A file in TOML::

    title = "How many bits"

    [train]
    dataset = "fashion-mnist"
    images = 100_000                    # seen by each training; or training.steps in the settings
    seeds = [0, 1]
    [train.settings]
    "data.size" = 16

    [axes]
    "model.bits" = [16, 64, 256]        # a setting and its values,
    [axes.estimator]                    # or a name, and named groups of settings
    soft = {"model.estimator" = "soft"}
    hard = {"model.estimator" = "straight-through"}

    [measure.scores]
    bits = ["uniform", "chow-liu-mixture", "encoded"]
    steps = [10]

Every combination of values and a seed is a *cell*: one run directory, named by what it varies.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

import priors
from dmzcli.codes.fit import check as check_prior
from dmzcli.codes.fit import share_settings
from dmzcli.config import assignments
from dmzcli.config.mistakes import shown
from dmzcli.errors import UserError, did_you_mean
from dmzcli.runs.plan import Plan, plan
from dmzcli.studies.study.measures import MEASURES, Measure
from dmzcli.studies.study.parts import Part, validated

MOST_CELLS = 10_000


class Trainings(Part):
    """What all trainings share.

    Attributes:
        dataset: Registered name or path; ``None`` takes the preset's.
        preset: Name of a preset; by default the one named like the dataset, if any.
        images: Images that each training sees; ``None`` leaves ``training.steps`` to the settings.
        seeds: One training per seed.
        settings: ``section.name`` to value.
    """

    dataset: str | None = None
    preset: str | None = None
    images: int | None = Field(default=None, ge=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)


class Study(Part):
    """The whole file.

    Attributes:
        title: Title of the tables.
        question: What the study asks, in a sentence or two; shown above them.
        train: What all trainings share.
        axes: A setting's name to its values, or a free name to named groups of settings.
        measure: Name of a measure to its options.
        prior_settings: Options of priors as ``name=value``, each for all kinds that have it.
        seed: Seed of all that is measured; trainings have their own.
    """

    title: str = Field(min_length=1)
    question: str = ""
    train: Trainings = Trainings()
    axes: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field(default_factory=dict)
    measure: dict[str, dict[str, Any]] = Field(min_length=1)
    prior_settings: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0)

    def measures(self) -> dict[str, Measure]:
        """The measures with their options, by name.

        Raises:
            UserError: A measure or an option is unknown, or a value does not fit.
        """
        made: dict[str, Measure] = {}
        for name, options in self.measure.items():
            if name not in MEASURES:
                raise UserError(f"unknown measure '{name}'", did_you_mean(name, MEASURES, "measures"))
            made[name] = validated(MEASURES[name], options, f"[measure.{name}]")
        return made

    def cells(self) -> list[Cell]:
        """Every combination of the axes' values, seed by seed, so that a whole picture comes early.

        Raises:
            UserError: An axis is empty, a setting is unknown, or there are too many cells.
        """
        axes = {short(axis, self.axes): _values(axis, values) for axis, values in self.axes.items()}
        combinations = list(itertools.product(*(values.items() for values in axes.values())))
        count = len(combinations) * len(self.train.seeds)
        if count > MOST_CELLS:
            raise UserError(f"the study has {count:,} cells", f"at most {MOST_CELLS:,} are taken")
        cells = []
        for combination in combinations:
            labels = dict(zip(axes, (label for label, _ in combination), strict=True))
            settings = dict(self.train.settings)
            for _, changes in combination:
                settings |= changes
            written = tuple(f"{key}={_written(value)}" for key, value in settings.items())
            assignments(written)  # complains of an unknown setting
            cells += [Cell(labels, seed, written) for seed in self.train.seeds]
        cells.sort(key=lambda cell: self.train.seeds.index(cell.seed))
        names = [cell.name for cell in cells]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise UserError(f"two cells of the study are named {twice}", "name each value once")
        return cells

    def plan(self, cell: Cell, data_dir: Path | None = None) -> Plan:
        """A cell's settings, not yet fitted to images.

        Raises:
            UserError: A preset, a key or a value is wrong, or both images and steps are given.
        """
        flags: dict[str, dict[str, Any]] = {
            "data": {"data_dir": None if data_dir is None else str(data_dir)},
            "training": {"seed": cell.seed},
        }
        planned = plan(self.train.dataset, self.train.preset, flags, cell.settings)
        if self.train.images is None:
            return planned
        if any(setting.startswith("training.steps=") for setting in cell.settings):
            raise UserError("both images and training.steps say how long to train", "leave one of them out")
        steps = -(-self.train.images // planned.config.training.batch_size)
        training = planned.config.training.model_copy(update={"steps": steps})
        return replace(planned, config=planned.config.model_copy(update={"training": training}))


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes:
        labels: The value of each axis, in words.
        seed: Seed of the training.
        settings: ``key=value`` entries.
    """

    labels: Mapping[str, str]
    seed: int
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its folder: what it varies."""
        parts = [*(f"{axis}-{label}" for axis, label in self.labels.items()), f"seed-{self.seed}"]
        return "_".join(re.sub(r"[^\w.,+-]+", "-", part) for part in parts)


def read_study(path: Path, settings: Sequence[str] = ()) -> Study:
    """Reads a study's file; nothing is trained or measured.

    Arguments:
        path: The file.
        settings: ``key=value`` entries that win over those that all trainings share.

    Raises:
        UserError: The file is missing or no TOML, a key is unknown, or a value does not fit.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist", "name a study's file, such as those of examples/studies"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as TOML: {error}", "see examples/studies for how it is written"
        ) from error
    study = validated(Study, tree, str(path))
    if settings:
        changed = assignments(settings)
        said = {
            f"{section}.{name}": value
            for section, values in changed.items()
            for name, value in values.items()
        }
        train = study.train.model_copy(update={"settings": {**study.train.settings, **said}})
        study = study.model_copy(update={"train": train})
    for cell in study.cells():
        study.plan(cell)
    kinds = [kind for measure in study.measures().values() for kind in measure.kinds()]
    known = priors.available()
    for kind in kinds:
        if kind not in known:
            raise UserError(f"unknown kind of prior '{kind}' in {path}", did_you_mean(kind, known, "kinds"))
    for kind, own in share_settings(study.prior_settings, kinds).items():
        try:
            check_prior(kind, own)
        except priors.PriorError as error:
            raise UserError(f"prior_settings in {path}: {error}", "see dmz fit-prior --kinds") from error
    return study


def short(axis: str, axes: Mapping[str, Any]) -> str:
    """What an axis is called in names and tables: the setting without its section, where that is one axis alone."""
    last = axis.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in axes) == 1 else axis


def _values(axis: str, values: list[Any] | dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings of each of an axis's values, by what the value is called."""
    if not values:
        raise UserError(f"the axis {axis} has no values", "name some, or leave the axis out")
    if isinstance(values, dict):
        return values
    labels = [shown(value) for value in values]
    if len(set(labels)) < len(labels):
        raise UserError(f"the axis {axis} has a value twice", "name each value once")
    return {label: {axis: value} for label, value in zip(labels, values, strict=True)}


def _written(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return value if isinstance(value, str) else json.dumps(value)
