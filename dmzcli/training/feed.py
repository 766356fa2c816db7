"""Training images on their way to the model: which, from where, and how they become numbers in [−1, 1].

The images of a step are a function of (seed, step, rank). Where the uint8 training images fit on the device they live
there, and a step gathers, mirrors and scales them there. Else they are streamed: a thread reads the images of the
coming steps, into pinned memory for a GPU, while the model computes; from a pack, that is the disk or its cache.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dmzcli.model.pixels import scaled
from dmzcli.system.processes import neighbors
from dmzcli.training.draws import batch_rows

AHEAD = 4
"""Steps that are read ahead."""
_CHUNK = 1 << 26
"""Bytes that go to the device at a time."""


def room(device: torch.device) -> int:
    """How many bytes of images may stay on a device: half of what is free, shared by this machine's processes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    import psutil

    return int(psutil.virtual_memory().available) // (2 * neighbors())


class Feed:
    """The training images of every step.

    Arguments:
        images: uint8 (N, H, W, C), in memory or mapped.
        rows: Positions of the images to train on, int64 (n,).
        device: Where they are needed.
        seed: Seed of the order.
        batch_size: Over all processes.
        rank, ranks: Number of this process, and of all; it takes that part of each batch.
        mode: ``resident``, ``stream``, or ``auto``: resident where they fit, see :func:`room`.
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        device: torch.device,
        seed: int,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        mode: Literal["auto", "resident", "stream"] = "auto",
    ) -> None:
        self._images, self._rows, self._device = images, rows, device
        self._seed, self._batch, self._rank, self._ranks = seed, batch_size, rank, ranks
        self.nbytes = len(rows) * int(np.prod(images.shape[1:], dtype=np.int64))
        on_disk = isinstance(images, np.memmap)
        here = device.type == "cpu" and not on_disk
        self.resident = mode == "resident" or (mode == "auto" and (here or self.nbytes <= room(device)))
        self._held: Tensor | None = None
        if self.resident and here:
            self._held = torch.from_numpy(images)  # no copy: rows are looked up in the whole
        elif self.resident:
            self._held, self._rows = self._moved(), np.arange(len(rows))
        self._pool = None if self.resident else ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ahead: dict[int, Future[Tensor]] = {}

    def __len__(self) -> int:
        """How many images are trained on."""
        return len(self._rows)

    def __str__(self) -> str:
        place = f"resident on {self._device}" if self.resident else f"streamed to {self._device}"
        return f"{self.nbytes / 1e6:,.1f} MB of training images, {place}"

    def __call__(self, step: int, flip: Tensor | None = None) -> Tensor:
        """The images of a step, float32 (B / ranks, C, H, W) in [−1, 1] on the device.

        Arguments:
            step: Number of the step, from 0.
            flip: Mask of the images to mirror, bool (B / ranks,), on the device.
        """
        if self._held is not None:
            rows = torch.from_numpy(self.rows(step)).to(self._device, non_blocking=True)
            flat = self._held.view(len(self._held), -1).index_select(
                0, rows
            )  # by indexing it takes ten times as long
            return scaled(flat.view(-1, *self._held.shape[1:]), flip)
        assert self._pool is not None
        for coming in range(step, step + AHEAD + 1):
            if coming not in self._ahead:
                self._ahead[coming] = self._pool.submit(self._read, coming)
        batch = self._ahead.pop(step).result()
        for passed in [known for known in self._ahead if not step < known <= step + AHEAD]:
            del self._ahead[passed]
        return scaled(batch.to(self._device, non_blocking=True), flip)

    def rows(self, step: int) -> np.ndarray:
        """Where the images of a step are, int64 (B / ranks,)."""
        chosen = batch_rows(self._seed, step, self._batch, len(self._rows))
        part = slice(self._rank * self._batch // self._ranks, (self._rank + 1) * self._batch // self._ranks)
        return self._rows[chosen[part]]

    def _read(self, step: int) -> Tensor:
        """The images of a step, uint8 (B / ranks, H, W, C), in pinned memory for a GPU."""
        rows = self.rows(step)
        shape = (len(rows), *self._images.shape[1:])
        batch = torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        np.take(self._images, rows, axis=0, out=batch.numpy(), mode="clip")  # "raise" would copy once more
        return batch

    def _moved(self) -> Tensor:
        """All training images, on the device."""
        shape = (len(self._rows), *self._images.shape[1:])
        held = torch.empty(shape, dtype=torch.uint8, device=self._device)
        step = max(1, _CHUNK // max(1, self.nbytes // max(1, len(self._rows))))
        for start in range(0, len(self._rows), step):
            held[start : start + step] = torch.from_numpy(self._images[self._rows[start : start + step]])
        return held
