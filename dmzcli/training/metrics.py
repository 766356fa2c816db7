"""What training writes down: ``metrics.jsonl``, and the same for TensorBoard."""

from __future__ import annotations

import io
import json
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from dmzcli.config import Config
from dmzcli.runs import Run
from dmzcli.system.files import atomic, user_errors
from dmzcli.system.reading import UNPACKED_BYTES, read_bytes


def grouped(name: str) -> str:
    """A number's name on the board, below what it was measured on.

    Example:
        >>> grouped("valid_loss"), grouped("loss")
        ('valid/loss', 'train/loss')
    """
    return f"valid/{name.removeprefix('valid_')}" if name.startswith("valid_") else f"train/{name}"


def settings_text(config: Config) -> str:
    """All settings as a table in Markdown."""
    rows = ["| setting | value |", "| --- | --- |"]
    for section, values in config.model_dump(mode="json").items():
        rows += [f"| {section}.{name} | {json.dumps(value)} |" for name, value in values.items()]
    return "\n".join(rows)


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
        self.file = run.metrics
        rows = [row for row in run.read_metrics() if row["step"] <= step]
        with atomic(self.file) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.latest = {name: value for row in rows for name, value in row.items()}
        self.folder = run.path / "tensorboard"
        self._usual_hook = threading.excepthook
        threading.excepthook = self._thread_ended
        try:
            self._begin(run, rows, step)
        except BaseException:
            threading.excepthook = self._usual_hook
            raise

    def _begin(self, run: Run, rows: list[dict[str, float]], step: int) -> None:
        """Shows on the board what was written down so far."""
        from torch.utils.tensorboard import SummaryWriter

        with user_errors(self.folder):
            for earlier in self.folder.glob("events.out.tfevents.*"):
                earlier.unlink()  # one file a run, however often it was stopped: all is written anew
            self.board = SummaryWriter(str(self.folder))
            if run.settings.exists():
                self.board.add_text("settings", settings_text(run.config), step)
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
        with user_errors(self.folder):
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(grouped(name), value, step)

    def picture(self, step: int, file: Path) -> None:
        """Shows a grid on the board."""
        image = np.asarray(Image.open(io.BytesIO(read_bytes(file, UNPACKED_BYTES))).convert("RGB"))
        with user_errors(self.folder):
            self.board.add_image("pictures", image, step, dataformats="HWC")
        self.flush()

    def flush(self) -> None:
        """Hands what is written so far to the disk."""
        with user_errors(self.folder):
            self.board.flush()

    def close(self) -> None:
        """Hands what is left to the disk."""
        try:
            with user_errors(self.folder):
                self.board.close()
        finally:
            threading.excepthook = self._usual_hook

    def _thread_ended(self, ended: threading.ExceptHookArgs) -> None:
        """Keeps quiet about the thread that writes for TensorBoard: the next call raises what it died of."""
        own = type(ended.thread).__name__ == "_AsyncWriterThread" and isinstance(ended.exc_value, OSError)
        if not own:
            self._usual_hook(ended)
