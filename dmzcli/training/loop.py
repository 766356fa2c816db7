"""Training: the loop over a trainer's steps, and what it writes on the way."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing
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
) -> Outcome:
    """Trains until ``training.steps``, resuming where the run's checkpoint is.

    Arguments:
        config: Resolved; ``data.size`` and ``data.channels`` are the dataset's.
        dataset: Fitted to that size.
        run: The run directory; made if absent.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``None`` takes the best there is.
        max_hours: Stops after so many hours of this call, with a checkpoint.
        talk: Receiver of messages and progress.

    Raises:
        UserError: The loss is not finite, the checkpoint is damaged, the disk is full, or another training writes
            the run.
        Interrupted: SIGINT or SIGTERM came; the checkpoint is saved.
    """
    talk = talk or Silence()
    processes.join(device)
    with hold_together(run.path, folder=True), torch.random.fork_rng():
        choice = settled_precision(config, device, checkpoint_facts(run).get("precision"))
        if choice.note:
            talk.say(choice.note)
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
            return _loop(trainer, max_hours, talk, signals)


def checkpoint_facts(run: Run) -> dict[str, Any]:
    """What the run's checkpoint says of itself, such as ``step`` and ``precision``; empty without one."""
    if not run.state.exists():
        return {}
    try:
        facts = json.loads(read_metadata(run.state)["dmz-train-state"])
    except (KeyError, ValueError):  # resuming will say what is wrong with it
        return {}
    return facts if isinstance(facts, dict) else {}


def _heal(trainer: Trainer, resumed: bool) -> None:
    """Writes the settings, and what a kill has kept from being written."""
    trainer.run.save_config(trainer.config)
    if resumed and trainer.step >= trainer.config.training.steps and not trainer.average_is_saved():
        trainer.save_average()  # a kill between the two files of a checkpoint may have left an older one


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
        trainer.share_sums()
        row = {name: float(value) / (step - trainer.logged) for name, value in trainer.sums.items()}
        _check_finite(row, trainer, saved)
        row["learning_rate"] = trainer.optimizer.param_groups[0]["lr"]
        images = (step - self._from) * trainer.config.training.batch_size
        row["images_per_second"] = images / (time.monotonic() - self._since)
        trainer.sums, trainer.logged = {}, step
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


_SHOWN = {"loss": "loss", "valid_loss": "valid"}


def _loop(trainer: Trainer, max_hours: float | None, talk: Talk, signals: list[int]) -> Outcome:
    training, first, started = trainer.config.training, trainer.step, time.monotonic()
    deadline = math.inf if max_hours is None else started + 3600 * max_hours
    saved, journal = first, _Journal(trainer)

    def kept() -> str:
        step = checkpoint_facts(trainer.run).get("step")
        return f"the checkpoint of step {step} is intact" if step else "no checkpoint was written yet"

    with closing(journal), processes.survived(kept), talk.task("training", training.steps, first) as advance:
        while trainer.step < training.steps:
            trainer.train_step()
            step = trainer.step
            heard, past = processes.largest(signals[0] if signals else 0, time.monotonic() > deadline)
            signal_number, late = int(heard), bool(past)
            last = step if late else training.steps
            message = ""
            if _due(step, training.log_every, last):
                valid, pictures = (
                    _due(step, training.valid_every, last),
                    _due(step, training.sample_every, last),
                )
                message = journal.note(saved, valid, pictures)
            advance(step, message)
            if _due(step, training.checkpoint_every, last) or signal_number:
                trainer.share_sums()
                _check_finite({name: float(value) for name, value in trainer.sums.items()}, trainer, saved)
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
