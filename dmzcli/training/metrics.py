"""What training writes down: ``metrics.jsonl``, and the same for TensorBoard."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from dmzcli.runs import Run
from dmzcli.system.files import atomic, user_errors


def training_pictures(run: Run) -> Path:
    """The folder of the grids that training draws, ``step-0000012.png`` and on."""
    return run.samples / "training"


class Metrics:
    """Appends rows to a run's metrics.

    Arguments:
        run: The run.
        step: Where training goes on; rows beyond it, of steps that will be made again, are dropped.

    Attributes:
        latest: The last known value of every number.
    """

    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.file = run.metrics
        rows = [row for row in run.read_metrics() if row["step"] <= step]
        with atomic(self.file) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.latest = {name: value for row in rows for name, value in row.items()}
        folder = run.path / "tensorboard"
        with user_errors(folder):
            for earlier in folder.glob("events.out.tfevents.*"):
                earlier.unlink()  # one file a run, however often it was stopped: all is written anew
            self.board = SummaryWriter(str(folder))
        for row in rows:
            self._show(int(row["step"]), row)
        for file in sorted(training_pictures(run).glob("step-*.png")):
            number = file.stem.removeprefix("step-")
            if number.isdecimal() and int(number) <= step:
                with suppress(
                    OSError
                ):  # a picture that somebody has damaged is missing on the board, no more
                    self.picture(int(number), file)

    def write(self, step: int, row: dict[str, float]) -> None:
        """Adds one row."""
        with user_errors(self.file), self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"step": step, **row}) + "\n")
        self._show(step, row)

    def _show(self, step: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            if name != "step":
                self.board.add_scalar(name, value, step)

    def picture(self, step: int, file: Path) -> None:
        """Shows a grid on the board."""
        image = np.asarray(Image.open(file).convert("RGB"))
        self.board.add_image("samples", image, step, dataformats="HWC")
        self.board.flush()

    def close(self) -> None:
        """Hands what is left to the disk."""
        self.board.close()
