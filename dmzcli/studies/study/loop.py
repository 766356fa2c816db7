"""Cell after cell: train, encode, measure; what is done is kept, and several commands may share the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dmzcli.codes.encode import encode
from dmzcli.config import Config, DataConfig
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.studies.study.declaration import Cell, Study
from dmzcli.studies.study.measures import Number, Trained
from dmzcli.system.devices import pick
from dmzcli.system.files import read_json, write_json
from dmzcli.system.locks import hold, in_use
from dmzcli.system.progress import Silence, Talk
from dmzcli.training import train

FORMAT = "dmz-study-cell"
Load = Callable[[DataConfig], Dataset]


@dataclass(frozen=True)
class Done:
    """What there is of a study so far.

    Attributes:
        numbers: What was measured of each finished cell.
        failed: Why a cell could not be made, by the cell's name.
        missing: Cells that are not there yet: another command makes them, or the time was over.
    """

    numbers: dict[str, list[Number]]
    failed: dict[str, str]
    missing: tuple[str, ...]


def check(study: Study, load: Load, data_dir: Path | None = None) -> dict[str, Config]:
    """The settings of every cell, resolved for its images; each way of reading the images is tried once.

    Arguments:
        study: The study.
        load: Reads a dataset.
        data_dir: Where it lies.

    Raises:
        UserError: A cell's settings do not fit its images, or a measure does not fit the dataset.
    """
    configs: dict[str, Config] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for cell in study.cells():
        config = study.plan(cell, data_dir).config
        key = config.data.model_dump_json()
        if key not in shapes:
            dataset = load(config.data)
            for measure in study.measures():
                measure.check(dataset)
            shapes[key] = dataset.images.shape
        _, size, _, channels = shapes[key]
        configs[cell.name] = config.resolved(size, channels)
    return configs


def run_study(
    study: Study,
    out: Path,
    load: Load,
    device: str | None = None,
    max_hours: float | None = None,
    data_dir: Path | None = None,
    batch_size: int | None = None,
    talk: Talk | None = None,
    progress: Callable[[Done], object] | None = None,
) -> Done:
    """Makes every cell that is not there yet and that no other command is making.

    A cell's run is ``runs/NAME`` and its numbers are ``cells/NAME.json`` in ``out``. A cell that cannot be trained or
    measured does not keep the others from it.

    Arguments:
        study: The study.
        out: The folder.
        load: Reads a dataset.
        device: As the commands name it.
        max_hours: Ends after so many hours; the same command goes on.
        data_dir: Where the dataset lies.
        batch_size: Images at a time in measuring; ``None`` for what suits the device.
        talk: Receives progress.
        progress: Called after each cell that was made, with all that there is.

    Raises:
        UserError: A cell's settings or a measure do not fit the dataset; before anything is trained.
        Interrupted: SIGINT or SIGTERM came; what is done is kept.
    """
    maker = _Maker(study, out, load, device, batch_size, talk or Silence())
    begun, configs, cells = time.monotonic(), check(study, load, data_dir), study.cells()
    failed: dict[str, str] = {}
    with maker.talk.task("cells", len(cells)) as advance:
        for position, cell in enumerate(cells):
            left = None if max_hours is None else max_hours - (time.monotonic() - begun) / 3600
            if left is None or left > 0:
                try:
                    made = maker.make(cell, configs[cell.name], left)
                except UserError as error:
                    made, failed[cell.name] = True, str(error)
                    maker.talk.say(f"{cell.name} failed: {error}")
                if made and progress is not None:
                    progress(gather(study, configs, out, failed))
            advance(position + 1, cell.name)
    return gather(study, configs, out, failed)


def gather(study: Study, configs: dict[str, Config], out: Path, failed: dict[str, str]) -> Done:
    """What there is of a study in a folder."""
    numbers, missing = {}, []
    for cell in study.cells():
        found = _kept(out / "cells" / f"{cell.name}.json", _key(study, configs[cell.name]))
        if found is not None:
            numbers[cell.name] = found
        elif cell.name not in failed:
            missing.append(cell.name)
    return Done(numbers, failed, tuple(missing))


@contextmanager
def _claimed(file: Path) -> Iterator[bool]:
    """Holds a cell while it is made; false where another command holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        mine = not in_use(file)
        if mine:
            try:
                stack.enter_context(hold(file))
            except UserError:
                if not in_use(file):
                    raise
                mine = False  # another was faster
        yield mine


def _key(study: Study, config: Config) -> dict[str, Any]:
    """All that a cell's numbers depend on, besides the weights."""
    measures = {
        name: measure.model_dump(mode="json")
        for name, measure in zip(study.measure, study.measures(), strict=True)
    }
    return {
        "experiment": config.experiment(),
        "steps": config.training.steps,
        "measures": measures,
        "prior_settings": list(study.prior_settings),
        "seed": study.seed,
    }


def _kept(file: Path, key: dict[str, Any]) -> list[Number] | None:
    """A cell's numbers, if they are there and of these settings."""
    if not file.exists():
        return None
    card = read_json(file)
    if card.get("key") != key:
        return None
    try:
        return [Number(**number) for number in card["numbers"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{file} holds no numbers of a cell", "delete it, and it is measured anew") from error


@dataclass(frozen=True)
class _Maker:
    """Trains and measures cells, and keeps their numbers."""

    study: Study
    out: Path
    load: Load
    device: str | None
    batch_size: int | None
    talk: Talk

    def make(self, cell: Cell, config: Config, max_hours: float | None) -> bool:
        """Makes a cell unless it is there or another command makes it; whether there was anything to do."""
        file, key = self.out / "cells" / f"{cell.name}.json", _key(self.study, config)
        if _kept(file, key) is not None:
            return False
        with _claimed(file) as mine:
            if not mine or _kept(file, key) is not None:
                return False
            self.talk.say(cell.name)
            dataset = self.load(config.data)
            run = self.study.plan(cell).directory(config, self.out / "runs" / cell.name)
            outcome = train(config, dataset, run, self.device, max_hours, self.talk)
            if not outcome.finished:
                self.talk.say(f"{cell.name} stopped at step {outcome.step:,} of {config.training.steps:,}")
                return False
            numbers = [asdict(number) for number in self._measured(run, dataset)]
            facts = {"labels": dict(cell.labels), "training_seed": cell.seed, "weights": run.weights_hash}
            card = {
                "format": FORMAT,
                "version": 1,
                "cell": cell.name,
                **facts,
                "key": key,
                "numbers": numbers,
            }
            write_json(file, card)
            return True

    def _measured(self, run: Run, dataset: Dataset) -> list[Number]:
        device, table = pick(self.device), None
        model = run.load_model(device)
        if model.dim:
            table = encode(model, dataset, run.bits, run.weights_hash, talk=self.talk).table
        settings, seed = self.study.prior_settings, self.study.seed
        trained = Trained(run, model, dataset, table, settings, seed, device, self.batch_size, self.talk)
        chosen = [each for each in self.study.measures() if table is not None or not each.needs_bits]
        return [number for measure in chosen for number in measure.take(trained)]
