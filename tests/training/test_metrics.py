"""What training writes down, on a disk that is full and in a folder that is gone."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.training.metrics import Metrics


@pytest.fixture
def metrics():
    usual = threading.excepthook
    metrics = Metrics(Run(Path("r")), 0)
    yield metrics
    assert threading.excepthook is usual  # of a metrics that was closed


def test_the_boards_folder_is_gone(metrics, capfd):
    metrics.write(1, {"loss": 1.0})
    metrics.flush()
    shutil.rmtree("r/tensorboard")
    with pytest.raises(UserError, match=r"^r/tensorboard does not exist"):
        for step in range(2, 100):
            metrics.write(step, {"loss": 1.0})
            metrics.flush()
    with pytest.raises(UserError):
        metrics.close()
    assert "Traceback" not in capfd.readouterr().err


def test_the_disk_is_full(metrics, monkeypatch, capfd):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorboard.compat.tensorflow_stub.io.gfile.LocalFileSystem._write", full)
    with pytest.raises(UserError, match=r"^no space left to write r/tensorboard$"):
        for step in range(100):
            metrics.write(step, {"loss": 1.0})
            metrics.flush()
    with pytest.raises(UserError, match="no space left"):
        metrics.close()
    assert "Traceback" not in capfd.readouterr().err


def test_the_runs_folder_is_gone(metrics):
    shutil.rmtree("r")
    with pytest.raises(UserError, match=r"metrics\.jsonl does not exist"):
        metrics.write(1, {"loss": 1.0})
    metrics.close()


def test_pictures_that_are_none_of_ours_are_left_out(metrics):
    metrics.close()
    folder = Path("r/samples/training")
    folder.mkdir(parents=True)
    (folder / "step-last.png").write_bytes(b"")
    Metrics(Run(Path("r")), 4).close()
    os.mkfifo(folder / "step-000002.png")
    with pytest.raises(UserError, match=r"step-000002\.png is not a file, but a FIFO"):
        Metrics(Run(Path("r")), 4)


def test_other_threads_are_still_heard(metrics, monkeypatch):
    heard = []
    monkeypatch.setattr(metrics, "_usual_hook", heard.append)

    def die():
        raise OSError("of another thread")

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    assert len(heard) == 1
    monkeypatch.undo()
    metrics.close()
