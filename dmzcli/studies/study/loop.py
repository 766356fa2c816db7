"""Cell after cell: train, encode, measure; what is done is kept, and several commands may share the work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dmzcli.codes.encode import encode
from dmzcli.config import DataConfig
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.studies.study.cards import Cards, Done, Prepared
from dmzcli.studies.study.declaration import Cell, Study
from dmzcli.studies.study.measures import Number, Trained
from dmzcli.system.devices import pick
from dmzcli.system.progress import Silence, Talk
from dmzcli.training import train
from priors import PriorError

Load = Callable[[DataConfig], Dataset]


def prepare(study: Study, load: Load, data_dir: Path | None = None) -> dict[str, Prepared]:
    """The settings of every cell, resolved for its images, by the cell's name; nothing is trained.

    Arguments:
        study: The study.
        load: Reads a dataset; each way of reading it is taken once.
        data_dir: Where it lies.

    Raises:
        UserError: A cell's settings do not fit its images, or a measure does not fit the dataset or the model.
    """
    prepared: dict[str, Prepared] = {}
    read: dict[str, Dataset] = {}
    for cell in study.cells():
        config = study.plan(cell, data_dir).config
        key = config.data.model_dump_json()
        dataset = read[key] if key in read else read.setdefault(key, load(config.data))
        _, size, _, channels = dataset.images.shape
        prepared[cell.name] = Prepared(config.resolved(size, channels), dataset.identity)
        for measure in study.measures().values():
            if config.model.dim or not measure.needs_bits:
                measure.check(dataset, prepared[cell.name].config)
    return prepared


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
        max_hours: No training is begun or goes on after so many hours; what is being measured then is finished.
        data_dir: Where the dataset lies.
        batch_size: Images at a time in measuring; ``None`` for what suits the device.
        talk: Receives progress.
        progress: Called after each cell that was made, with all that there is.

    Raises:
        UserError: A cell's settings or a measure do not fit the dataset; before anything is trained.
        Interrupted: SIGINT or SIGTERM came; what is done is kept.
    """
    begun = time.monotonic()
    cards = Cards(study, prepare(study, load, data_dir), out)
    maker, cells = _Maker(cards, load, device, batch_size, talk or Silence()), study.cells()
    with maker.talk.task("cells", len(cells)) as advance:
        for position, cell in enumerate(cells):
            left = None if max_hours is None else max_hours - (time.monotonic() - begun) / 3600
            if (left is None or left > 0) and maker.make(cell, left) and progress is not None:
                progress(cards.gather())
            advance(position + 1, cell.name)
    return cards.gather()


@dataclass(frozen=True)
class _Maker:
    """Trains and measures cells."""

    cards: Cards
    load: Load
    device: str | None
    batch_size: int | None
    talk: Talk

    def make(self, cell: Cell, max_hours: float | None) -> bool:
        """Makes a cell unless it is there or another command makes it; whether there is something new to tell."""
        if self.cards.numbers(cell) is not None:
            return False
        with self.cards.claimed(cell) as mine:
            if not mine or self.cards.numbers(cell) is not None:
                return False
            self.talk.say(cell.name)
            try:
                numbers = self._made(cell, max_hours)
            except (UserError, PriorError) as error:
                self.cards.fail(cell, str(error))
                self.talk.say(f"{cell.name} failed: {error}")
                return True
            if numbers is not None:
                self.cards.keep(cell, numbers)
            return numbers is not None

    def _made(self, cell: Cell, max_hours: float | None) -> list[Number] | None:
        """A cell's numbers; ``None`` where the time was over before its training."""
        config = self.cards.prepared[cell.name].config
        dataset, steps = self.load(config.data), config.training.steps
        run = self.cards.study.plan(cell).directory(config, self.cards.run(cell).path)
        outcome = train(config, dataset, run, self.device, max_hours, self.talk)
        if not outcome.finished:
            self.talk.say(f"{cell.name} stopped at step {outcome.step:,} of {steps:,}")
            return None
        if outcome.step != steps:
            raise UserError(
                f"{run.path} was trained for {outcome.step:,} steps already, more than the {steps:,} of the study",
                "delete it, or give the shorter study another --out",
            )
        return self._measured(run, dataset)

    def _measured(self, run: Run, dataset: Dataset) -> list[Number]:
        device, table, study = pick(self.device), None, self.cards.study
        model = run.load_model(device)
        if model.dim:
            table = encode(model, dataset, run.bits, run.weights_hash, talk=self.talk).table
        settings, seed = study.prior_settings, study.seed
        trained = Trained(run, model, dataset, table, settings, seed, device, self.batch_size, self.talk)
        chosen = [each for each in study.measures().values() if table is not None or not each.needs_bits]
        return [number for measure in chosen for number in measure.take(trained)]
