"""Training: the loop over a trainer's steps, and what it writes on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dmzcli.config import Config
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.system import processes
from dmzcli.system.files import read_metadata
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold_together
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.reading import loads_object
from dmzcli.training.engine import accelerator, settled_precision
from dmzcli.training.metrics import Metrics
from dmzcli.training.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """How a call of :func:`train` ended.

    Attributes:
        step: Optimizer steps of the run so far.
        finished: Whether that is all of them.
        parameters: Number of the model's parameters.
        seconds: Duration of this call.
        images_per_second: Rate of this call, checkpoints and grids included; ``None`` if it made no step.
        loss: The last logged training loss.
        valid_loss: The last validation loss, of the averaged weights on hard bits.
    """

    step: int
    finished: bool
    parameters: int
    seconds: float
    images_per_second: float | None
    loss: float | None
    valid_loss: float | None


def _check_finite(values: dict[str, float], trainer: Trainer, saved: int) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"{bad[0].replace('_', ' ')} is no longer finite at step {trainer.step}"
            + (f"; the checkpoint of step {saved} is intact" if saved else ""),
            "lower training.learning_rate, or train with --set training.precision=no",
        )


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def train(
    config: Config,
    dataset: Dataset,
    run: Run,
    device: str | None = None,
    max_hours: float | None = None,
    talk: Talk | None = None,
    begun: float | None = None,
) -> Outcome:
    """Trains until ``training.steps``, resuming where the run's checkpoint is.

    Arguments:
        config: Resolved; ``data.size`` and ``data.channels`` are the dataset's.
        dataset: Fitted to that size.
        run: The run directory; made if absent.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``None`` takes the best there is.
        max_hours: Ends after so many hours, the last checkpoint, validation and pictures included.
        talk: Receiver of messages and progress.
        begun: When the hours began, by the monotonic clock; by default now.

    Raises:
        UserError: The loss is not finite, the checkpoint is damaged, the disk is full, or another training writes
            the run.
        Interrupted: SIGINT or SIGTERM came; the checkpoint is saved.
    """
    talk = talk or Silence()
    begun = time.monotonic() if begun is None else begun
    deadline = math.inf if max_hours is None else begun + 3600 * max_hours
    processes.join(device)
    with hold_together(run.path, folder=True), torch.random.fork_rng():
        choice = settled_precision(config, device, checkpoint_facts(run).get("precision"))
        if choice.note:
            talk.say(choice.note)
        if config.training.channels_last and not config.training.compile:
            talk.say(
                "training.channels_last is left out: it is slower unless training.compile is true as well"
            )
        trainer = Trainer(config, dataset, run, accelerator(device, choice.precision))
        talk.say(str(trainer.feed))
        resumed = trainer.resume()
        imported = trainer.start_from_import()
        if imported:
            talk.say(f"starting from the imported weights in {run.weights}")
        if resumed:
            talk.say(f"resuming {run.path} at step {trainer.step}")
        with collected() as signals:
            trainer.check_agreement(imported)
            if processes.main():
                _heal(trainer, resumed)
            return _loop(trainer, deadline, talk, signals)


def checkpoint_facts(run: Run) -> dict[str, Any]:
    """What the run's checkpoint says of itself, such as ``step`` and ``precision``; empty without one."""
    if not run.state.exists():
        return {}
    try:
        return loads_object(read_metadata(run.state)["dmz-train-state"])
    except (KeyError, ValueError):  # resuming will say what is wrong with it
        return {}


def _heal(trainer: Trainer, resumed: bool) -> None:
    """Writes the settings, and what a kill has kept from being written."""
    trainer.run.save_config(trainer.config)
    if resumed and trainer.step >= trainer.config.training.steps and not trainer.average_is_saved():
        trainer.save_average()  # a kill between the two files of a checkpoint has left an older one


class _Journal:
    """What a training loop writes down between its steps.

    Attributes:
        latest: The last known value of every number.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.metrics = Metrics(trainer.run, trainer.step) if trainer.engine.is_main_process else None
        self.latest: dict[str, float] = self.metrics.latest if self.metrics else {}
        self._from, self._since = trainer.step, time.monotonic()

    def note(self, saved: int, valid: bool, pictures: bool) -> str:
        """Writes a row of means since the last one.

        Arguments:
            saved: Step of the last checkpoint.
            valid: Whether to measure the validation loss.
            pictures: Whether to draw a grid.

        Returns:
            The row in short.
        """
        trainer, step = self.trainer, self.trainer.step
        trainer.sums.share()
        row = {name: float(value) / (step - trainer.logged) for name, value in trainer.sums.items()}
        _check_finite(row, trainer, saved)
        row["learning_rate"] = trainer.rate(step - 1)
        images = (step - self._from) * trainer.config.training.batch_size
        row["images_per_second"] = images / (time.monotonic() - self._since)
        trainer.sums.clear()
        trainer.logged = step
        if valid and len(trainer.valid_images):
            loss = trainer.valid_loss() if self.metrics else None
            row["valid_loss"] = processes.from_main(torch.tensor(math.nan if loss is None else loss)).item()
            _check_finite(row, trainer, saved)
        if self.metrics:
            self.metrics.write(step, row)
            if pictures:
                self.metrics.picture(step, trainer.pictures())
        processes.wait()  # however long the main one draws: no gradient waits for it
        self.latest |= row
        self._from, self._since = step, time.monotonic()  # validation and grids are no training time
        shown = "".join(
            f"{name} {self.latest[key]:.4f}  " for key, name in _SHOWN.items() if key in self.latest
        )
        return f"{shown}{row['images_per_second']:.0f} images/s"

    def close(self) -> None:
        """Closes the files."""
        if self.metrics:
            self.metrics.close()


class _Ending:
    """How long the end of a training takes: another step, validation and pictures, and the checkpoint.

    What has not been seen yet is guessed from a step: it is as much work as the steps of some
    700 images.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._guess = 700 / trainer.config.training.batch_size
        self._write = 1 + 5 * sum(p.nbytes for p in trainer.bare.parameters()) / _DISK
        self._device, self._steps = trainer.engine.device, 0
        self._longest: dict[str, float] = {}

    @contextmanager
    def timed(self, what: str, whole: bool = True) -> Iterator[None]:
        """Takes the time of a part; of one that is not whole, only if it is the longest so far."""
        start = time.monotonic()
        yield
        if what == "step" and self._device.type == "cuda" and self._steps < _TIMED:
            torch.cuda.synchronize(self._device)  # else the first steps would seem to take no time at all
        self._steps += what == "step"
        seconds = time.monotonic() - start
        if what == "step":  # the latest: the first are slow, and nothing is to be learned from them
            self._longest[what] = seconds
        elif whole or what in self._longest:
            self._longest[what] = max(seconds, self._longest.get(what, 0.0))

    def seconds(self) -> float:
        """Of the next step, and of the end after it."""
        step = self._longest.get("step", 0.0)
        known = self._longest.get("notes", self._guess * step) + self._longest.get("checkpoint", self._write)
        return step + known + _EXIT


_DISK = 2e8
"""Bytes a second that a checkpoint of weights, average and moments is thought to be written at."""
_TIMED = 20
_EXIT = 1.0
"""Seconds in which a process comes to its end."""


_SHOWN = {"loss": "loss", "valid_loss": "valid"}


def _loop(trainer: Trainer, deadline: float, talk: Talk, signals: list[int]) -> Outcome:
    training, first, started = trainer.config.training, trainer.step, time.monotonic()
    saved, journal, ending = first, _Journal(trainer), _Ending(trainer)
    until = None if math.isinf(deadline) else deadline

    def kept() -> str:
        step = checkpoint_facts(trainer.run).get("step")
        return f"the checkpoint of step {step} is intact" if step else "no checkpoint was written yet"

    with (
        closing(journal),
        processes.survived(kept),
        talk.task("training", training.steps, first, until) as advance,
    ):
        while trainer.step < training.steps:
            with ending.timed("step"):
                trainer.train_step()
            step = trainer.step
            over = time.monotonic() + ending.seconds() > deadline
            heard, past = processes.largest(signals[0] if signals else 0, over)
            signal_number, late = int(heard), bool(past)
            last = step if late else training.steps
            message = ""
            if _due(step, training.log_every, last):
                valid, pictures = (
                    _due(step, training.valid_every, last),
                    _due(step, training.sample_every, last),
                )
                with ending.timed("notes", whole=valid and pictures):
                    message = journal.note(saved, valid, pictures)
            advance(step, message)
            if _due(step, training.checkpoint_every, last) or signal_number:
                trainer.sums.share()
                _check_finite({name: float(value) for name, value in trainer.sums.items()}, trainer, saved)
                with ending.timed("checkpoint"):
                    trainer.save()
                saved = step
            if signal_number:
                raise Interrupted(
                    signal_number, f"the checkpoint of step {step} is saved; run the same command to go on"
                )
            if late:
                break
    seconds = time.monotonic() - started
    images = (trainer.step - first) * training.batch_size
    return Outcome(
        step=trainer.step,
        finished=trainer.step >= training.steps,
        parameters=sum(parameter.numel() for parameter in trainer.bare.parameters()),
        seconds=seconds,
        images_per_second=images / seconds if images else None,
        loss=journal.latest.get("loss"),
        valid_loss=journal.latest.get("valid_loss"),
    )
