"""The processes of one command: who each is, what they agree on, and what one says when another has died.

A launcher (``torchrun``, ``accelerate launch``) starts the same command several times, and tells each its number in
the environment. Tensors of the model travel over Accelerate's process group. What the processes have to agree on
(to stop, to go on) travels over a second group, of plain TCP: it needs no device, it may wait as long as the main
process computes alone, and it notices a dead process by its closed connection. With one process nothing here does
anything.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from dmzcli.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WORK = timedelta(minutes=10)
"""How long gradients and moments wait for a process that does not answer, though all have started the same step."""
ALONE = timedelta(hours=12)
"""How long the others wait while one process prepares pictures, validates, or writes."""

_groups: dict[str, torch.distributed.ProcessGroup] = {}


def ranks() -> int:
    """How many processes run this command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if ranks() > 1 else 0


def neighbors() -> int:
    """How many of them share this machine, itself among them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if ranks() > 1 else 1


def main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def join(device: str | None = None) -> torch.device:
    """Meets the other processes.

    Arguments:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``None`` takes the best there is.

    Returns:
        The device of this process: with several on CUDA, each machine's first process has its first device.

    Raises:
        UserError: There is no such device, or it names one for several processes.
    """
    from dmzcli.system.devices import pick

    chosen = pick(device)
    # Of a convolution of one channel: its gradient is laid out in another of the ways that are the same memory.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    if ranks() == 1:
        return chosen
    if chosen.index is not None:
        raise UserError(f"--device {chosen} names one device for several processes", "use --device cuda")
    if chosen.type == "mps":
        chosen = pick("cpu") if device is None else chosen
    from accelerate import PartialState

    with survived(lambda: "nothing was begun"):
        state = PartialState(cpu=chosen.type == "cpu", timeout=WORK)
        _agreement()
    return pick("cpu") if chosen.type == "cpu" else state.device


def apart(device: str | None = None) -> str | None:
    """Makes each of several processes one by itself, for work that they divide among them without a group.

    Returns:
        The device as commands name it: with several on CUDA, each has one of its machine's.
    """
    if ranks() == 1:
        return device
    here = os.environ.get("LOCAL_RANK", "0")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)
    if device in (None, "cuda"):
        import torch

        if torch.cuda.is_available():
            return f"cuda:{int(here) % torch.cuda.device_count()}"
    return device


def _agreement() -> torch.distributed.ProcessGroup:
    """The group that the processes agree over."""
    from torch import distributed

    if "agreement" not in _groups:
        group = distributed.new_group(backend="gloo", timeout=ALONE)
        assert not isinstance(group, int)  # as it is for processes that are not in the group; all are
        _groups["agreement"] = group
        atexit.register(distributed.destroy_process_group)
    return _groups["agreement"]


def largest(*numbers: float) -> list[float]:
    """Of each number the largest that any process has; all wait for each other."""
    if ranks() == 1:
        return list(numbers)
    import torch
    from torch import distributed

    shared = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX, group=_agreement())
    return shared.tolist()


def from_main(values: Tensor) -> Tensor:
    """The main process's values, a tensor on the CPU; the others wait for it, with one of the same shape and type."""
    if ranks() > 1:
        from torch import distributed

        distributed.broadcast(values, 0, group=_agreement())
    return values


def agree(text: str) -> bool:
    """Whether all processes have the same text; they wait for each other."""
    number = int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)  # a double holds that many bits
    high, low = largest(number, -number)
    return high == -low


def check_same_weights(digest: str) -> None:
    """Raises UserError, in all processes, unless they have loaded the same weights, by their SHA-256."""
    if not agree(digest):
        raise UserError(
            "the processes have loaded different weights: a training goes on", "run the same command again"
        )


def wait() -> None:
    """Goes on when every process is here."""
    largest(0)


def mean(values: Tensor) -> Tensor:
    """Means over the processes of equal parts; in place, without gradients."""
    from torch import distributed

    if ranks() > 1:
        distributed.all_reduce(values)
        values /= ranks()
    return values


@contextmanager
def first_of_machine() -> Iterator[None]:
    """Lets one process of each machine through before the others: it fills the cache that they then find filled."""
    waits = int(os.environ.get("LOCAL_RANK", "0")) > 0
    if waits:
        wait()
    try:
        yield
    finally:  # also where it failed: the others then fail by themselves, and say why
        if not waits:
            wait()


@contextmanager
def survived(kept: Callable[[], str]) -> Iterator[None]:
    """Says so where another process died.

    Arguments:
        kept: Gives the sentence for the user: what is saved.

    Raises:
        UserError: Another process has closed its connections, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_connection(error):
            raise
        with suppress(ValueError):  # not the main thread
            # The launcher has noticed as well, and ends this process; but it leaves time for a last word.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise UserError(*lost(error, kept())) from error


def lost(error: BaseException, kept: str) -> tuple[str, str]:
    """What to say where another process died, and what to do."""
    cause = " ".join(str(error).split()).split(". ")[0]
    return (
        f"another of the {ranks()} processes has ended or does not answer; {kept}",
        f"see what it said, if anything, and run the same command to go on; here it was: {cause}",
    )


def is_connection(error: BaseException) -> bool:
    """Whether an error is of the connections between processes; gloo's have no type of their own."""
    if ranks() == 1 or not isinstance(error, RuntimeError):
        return False
    from torch import distributed

    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    )


def begun() -> float:
    """When this process began, by the monotonic clock."""
    import psutil

    return time.monotonic() - (time.time() - psutil.Process().create_time())
