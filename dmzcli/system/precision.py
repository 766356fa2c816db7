"""Which type of numbers to compute in: float32, or bfloat16 where a convolution shows that it is faster.

What a processor's list of instructions promises is not what its convolutions do: without such instructions bfloat16 is
some sixteen times slower than float32, and with them single shapes are slow in some versions of the library.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

from dmzcli.errors import UserError, did_you_mean
from dmzcli.system import processes
from dmzcli.system.files import cache_root, read_json, write_json

PRECISIONS = ("no", "bf16", "auto")
GAIN = 1.1
"""bfloat16 must be so many times faster to be taken: it rounds more."""
CHANGE = 1.5
"""A run goes on with the type that it has, unless the other one is so many times faster here."""
_WORK = 2e9
"""Most floating-point operations of one timed convolution and its gradients."""


class Choice(NamedTuple):
    """What to compute in, and what the user should know of it."""

    precision: str
    note: str | None = None


def check(precision: str) -> None:
    """Raises UserError unless ``precision`` is ``no``, ``bf16`` or ``auto``."""
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision '{precision}'", did_you_mean(precision, PRECISIONS))


def choose(
    precision: str,
    device: torch.device,
    channels: int,
    size: int,
    images: int,
    before: str | None = None,
    gradients: bool = True,
) -> Choice:
    """Settles ``no``, ``bf16`` or ``auto`` for a network on a device.

    Arguments:
        precision: As settings name it.
        device: The device.
        channels, size, images: Shape of the network's largest convolutions: channels, height and width, batch.
        before: What the run has computed in until now, if anything; ``auto`` keeps to it unless that costs much.
        gradients: Whether gradients are computed, too; without, a machine decides once, see
            :func:`remembered_slowness`.

    Raises:
        UserError: The precision is none of these.
    """
    check(precision)
    if precision == "no":
        return Choice("no")
    images = max(1, min(images, int(_WORK / (54 * channels**2 * size**2))))
    slowness = (
        bf16_slowness(device, channels, size, images)
        if gradients
        else remembered_slowness(device, channels, size, images)
    )
    if precision == "bf16":
        how = "cannot be computed" if slowness >= _NEVER else f"takes {slowness:.1f} times as long as float32"
        note = f"bf16 {how} on this {device.type}; precision no is faster"
        return Choice("bf16", note if slowness > 1 else None)
    if before in ("no", "bf16"):
        faster = slowness if before == "bf16" else 1 / slowness
        if faster < CHANGE:
            return Choice(before)
    return Choice("bf16" if slowness * GAIN < 1 else "no")


def remembered_slowness(device: torch.device, channels: int, size: int, images: int) -> float:
    """:func:`bf16_slowness` without gradients, measured once on a machine: the same command makes the same images.

    Processes that share work take the main one's.
    """
    slowness = 0.0
    if processes.main():
        facts = [_machine(device), str(torch.__version__), channels, size, images]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        file = cache_root() / "precision" / f"{key}.json"
        known = read_json(file).get("slowness") if file.exists() else None
        if isinstance(known, int | float):
            slowness = float(known)
        else:
            slowness = min(bf16_slowness(device, channels, size, images, False), _NEVER)
            with suppress(UserError):  # a cache that cannot be written: it is measured again
                write_json(file, {"slowness": slowness})
    return float(processes.largest(slowness)[0])


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.node()} {platform.machine()} {device.type}"


_NEVER = 1e9
"""How slow it is where it cannot be computed at all."""


@lru_cache
def bf16_slowness(
    device: torch.device, channels: int, size: int, images: int, gradients: bool = True
) -> float:
    """How many times as long as in float32 a convolution, and its gradients, take in bfloat16.

    Infinite where the device has no such convolution.
    """
    best: dict[torch.dtype, float] = {}
    with torch.set_grad_enabled(gradients), torch.autocast(device.type, enabled=False):
        for _ in range(4):  # they alternate, and the fastest of each counts: the first one warms up
            for dtype in (torch.float32, torch.bfloat16):
                try:
                    seconds = _seconds(device, dtype, channels, size, images, gradients)
                except (RuntimeError, NotImplementedError):
                    if dtype is torch.float32:
                        raise
                    return math.inf
                best[dtype] = min(seconds, best.get(dtype, math.inf))
            if best[torch.bfloat16] > 10 * best[torch.float32]:
                break  # no need to wait for three more
    return best[torch.bfloat16] / best[torch.float32]


def _seconds(
    device: torch.device, dtype: torch.dtype, channels: int, size: int, images: int, gradients: bool
) -> float:
    """What one convolution takes."""
    x = torch.ones(images, channels, size, size, device=device, dtype=dtype, requires_grad=gradients)
    weight = torch.ones(channels, channels, 3, 3, device=device, dtype=dtype, requires_grad=gradients)
    _finish(device)
    start = time.perf_counter()
    total = F.conv2d(x, weight, padding=1).sum()
    if gradients:
        total.backward()
    _finish(device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
