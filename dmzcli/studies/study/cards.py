"""What a study keeps of its cells: the numbers of each, all that they depend on, and why a cell could not be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dmzcli.config import Config
from dmzcli.diffusion.samplers import SAMPLERS
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.studies.study.declaration import Cell, Study
from dmzcli.studies.study.measures import Number
from dmzcli.system.files import read_json, write_json
from dmzcli.system.locks import InUse, hold
from dmzcli.version import __version__

FORMAT = "dmz-study-cell"


@dataclass(frozen=True)
class Prepared:
    """A cell before its training.

    Attributes:
        config: Its settings, resolved for its images.
        dataset: Identity of these.
    """

    config: Config
    dataset: str


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


@dataclass(frozen=True)
class Cards:
    """The files of a study's cells: ``cells/NAME.json``, or ``cells/NAME.failed.json``.

    Attributes:
        study: The study.
        prepared: Every cell's settings, by its name.
        out: The study's folder.
    """

    study: Study
    prepared: Mapping[str, Prepared]
    out: Path

    def run(self, cell: Cell) -> Run:
        """A cell's run directory."""
        return Run(self.out / "runs" / cell.name)

    def _file(self, cell: Cell) -> Path:
        return self.out / "cells" / f"{cell.name}.json"

    def _failure(self, cell: Cell) -> Path:
        return self.out / "cells" / f"{cell.name}.failed.json"

    def _key(self, cell: Cell) -> dict[str, Any]:
        """All that a cell's numbers depend on, besides the weights."""
        prepared, study = self.prepared[cell.name], self.study
        config = prepared.config
        own = {name: measure.model_dump(mode="json") for name, measure in study.measures().items()}
        laws = {name: SAMPLERS.get(name).law for name in SAMPLERS.names()}
        free = {name: getattr(config.training, name) for name in ("steps", "decay", "precision")}
        return {
            "dmz": __version__,
            "experiment": config.experiment(),
            "training": free,
            "dataset": prepared.dataset,
            "measures": own,
            "laws": {name: law for name, law in laws.items() if law > 1},
            "prior_settings": list(study.prior_settings),
            "seed": study.seed,
        }

    def numbers(self, cell: Cell) -> list[Number] | None:
        """A cell's numbers, if they are there, of these settings, and of the weights that its run has."""
        file = self._file(cell)
        if not file.exists():
            return None
        card, run = read_json(file), self.run(cell)
        made_by = run.weights_hash if run.weights.exists() else None
        if card.get("key") != self._key(cell) or card.get("weights") != made_by:
            return None
        try:
            return [Number(**number) for number in card["numbers"]]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file} holds no numbers of a cell", "delete it, and it is measured anew"
            ) from error

    def _why_failed(self, cell: Cell) -> str | None:
        file = self._failure(cell)
        if not file.exists():
            return None
        card = read_json(file)
        return str(card.get("why")) if card.get("key") == self._key(cell) else None

    def keep(self, cell: Cell, numbers: Sequence[Number]) -> None:
        """Writes a cell's numbers."""
        facts = {
            "labels": dict(cell.labels),
            "training_seed": cell.seed,
            "weights": self.run(cell).weights_hash,
        }
        rows = [asdict(number) for number in numbers]
        card = {
            "format": FORMAT,
            "version": 1,
            "cell": cell.name,
            **facts,
            "key": self._key(cell),
            "numbers": rows,
        }
        write_json(self._file(cell), card)
        self._failure(cell).unlink(missing_ok=True)

    def fail(self, cell: Cell, why: str) -> None:
        """Writes why a cell could not be made."""
        write_json(self._failure(cell), {"cell": cell.name, "key": self._key(cell), "why": why})

    def gather(self) -> Done:
        """What there is, whoever made it."""
        numbers, failed, missing = {}, {}, []
        for cell in self.study.cells():
            found = self.numbers(cell)
            if found is not None:
                numbers[cell.name] = found
            elif (why := self._why_failed(cell)) is not None:
                failed[cell.name] = why
            else:
                missing.append(cell.name)
        return Done(numbers, failed, tuple(missing))

    @contextmanager
    def claimed(self, cell: Cell) -> Iterator[bool]:
        """Holds a cell while it is made; false where another command holds it."""
        file = self._file(cell)
        file.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(hold(file))
                mine = True
            except InUse:
                mine = False
            yield mine
