"""What training writes down: ``metrics.jsonl``, and the same for TensorBoard."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from dmzcli.runs import Run
from dmzcli.system.files import atomic, user_errors


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
        self.folder = run.path / "tensorboard"
        self._usual_hook = threading.excepthook
        threading.excepthook = self._thread_ended
        with user_errors(self.folder):
            self.board = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)

    def write(self, step: int, row: dict[str, float]) -> None:
        """Adds one row."""
        with user_errors(self.file), self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"step": step, **row}) + "\n")
        with user_errors(self.folder):
            for name, value in row.items():
                self.board.add_scalar(name, value, step)

    def picture(self, step: int, file: Path) -> None:
        """Shows a grid on the board."""
        image = np.asarray(Image.open(file).convert("RGB"))
        with user_errors(self.folder):
            self.board.add_image("samples", image, step, dataformats="HWC")
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
