"""Training images on their way: the same ones on every path, a function of (seed, step, rank)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dmzcli.data import load, prepare
from dmzcli.model.pixels import scaled, to_unit
from dmzcli.runs import Run
from dmzcli.training import train
from dmzcli.training.draws import batch_rows
from dmzcli.training.feed import AHEAD, Feed

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)
ROWS = np.arange(0, 50, 2)
FLIP = torch.tensor([True, False] * 4)


@pytest.fixture
def on_disk(tmp_path):
    IMAGES.tofile(tmp_path / "images")
    return np.memmap(tmp_path / "images", np.uint8, "r", shape=IMAGES.shape)


def test_mirroring_and_scaling():
    expected = to_unit(IMAGES[:8])
    for i in range(0, 8, 2):
        expected[i] = expected[i].flip(2)
    assert torch.equal(scaled(torch.from_numpy(IMAGES[:8]), FLIP), expected)


@pytest.mark.parametrize("mode", ["auto", "resident", "stream"])
@pytest.mark.parametrize("mapped", [False, True])
def test_every_path_gives_the_same_images(mode, mapped, on_disk):
    feed = Feed(on_disk if mapped else IMAGES, ROWS, CPU, seed=3, batch_size=8, mode=mode)
    assert len(feed) == 25 and feed.nbytes == 25 * 108 and feed.resident == (mode != "stream")
    for step in (0, 1, 2, 7, 3, 100, *range(101, 101 + 3 * AHEAD)):  # on and on, and anywhere else
        expected = to_unit(IMAGES[ROWS[batch_rows(3, step, 8, 25)]])
        assert torch.equal(feed(step), expected)
        if step % 2:
            assert torch.equal(feed(step, FLIP)[1::2], expected[1::2])


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_ranks_share_a_batch(mode, on_disk):
    whole = Feed(IMAGES, ROWS, CPU, 0, 8)(5)
    parts = [Feed(on_disk, ROWS, CPU, 0, 8, rank, 4, mode)(5) for rank in range(4)]
    assert torch.equal(torch.cat(parts), whole)


def test_images_stay_on_the_disk_where_there_is_no_room(on_disk, monkeypatch):
    monkeypatch.setattr("dmzcli.training.feed.room", lambda device: 25 * 108 - 1)
    assert not Feed(on_disk, ROWS, CPU, 0, 8).resident and "streamed to cpu" in str(
        Feed(on_disk, ROWS, CPU, 0, 8)
    )
    assert Feed(IMAGES, ROWS, CPU, 0, 8).resident  # these are in memory already
    monkeypatch.setattr("dmzcli.training.feed.room", lambda device: 25 * 108)
    assert Feed(on_disk, ROWS, CPU, 0, 8).resident


def test_no_more_is_read_ahead_than_said(on_disk):
    feed = Feed(on_disk, ROWS, CPU, 0, 8, mode="stream")
    for step in (0, 1, 50, 51, 3):
        feed(step)
        assert sorted(feed._ahead) == list(range(step + 1, step + AHEAD + 1))


@pytest.mark.parametrize("feed", ["resident", "stream"])
def test_training_on_a_pack_is_training_on_the_dataset(feed, tiny, run):
    """Bit for bit: the images, their order and their layout are the same."""
    pack = prepare("digits", Path("digits.h5")).dataset
    config = tiny(data__flip=True, training__steps=4, data__feed=feed)
    train(config, pack, Run(Path("pack")), "cpu")
    train(tiny(data__flip=True, training__steps=4), load("digits"), Run(Path("plain")), "cpu")
    assert Path("pack/model.safetensors").read_bytes() == Path("plain/model.safetensors").read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_on_a_gpu(mode, on_disk):
    feed = Feed(on_disk, ROWS, torch.device("cuda"), 0, 8, mode=mode)
    for step in range(12):
        assert torch.equal(feed(step, FLIP.cuda()).cpu(), Feed(IMAGES, ROWS, CPU, 0, 8)(step, FLIP))
