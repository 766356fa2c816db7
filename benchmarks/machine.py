"""What the benchmarks share: the machine in words, its memory, and the most matrix products that it makes."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

import torch

if (
    Path(sys.path[0]).resolve() == Path(__file__).resolve().parent
):  # this folder's priors.py is not the package
    sys.path.append(sys.path[0])
    sys.path[0] = str(Path(__file__).resolve().parents[1])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def words(device: torch.device) -> str:
    """The device, and what computes on it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"device {device} ({name}, {cores()} cores, {torch.get_num_threads()} threads), torch {torch.__version__}"


def resident_mib() -> float:
    """The most memory that this process has held so far."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    unit = 2**20 if platform.system() == "Darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def matrix_peak(device: torch.device, precision: str, sides: tuple[int, ...] | None = None) -> float:
    """The most operations a second that products of square matrices reach, in float32 or bfloat16."""
    dtype, best = torch.bfloat16 if precision == "bf16" else torch.float32, 0.0
    for side in sides or ((4096, 8192) if device.type == "cuda" else (1024, 2048)):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        for _ in range(10):
            start = time.perf_counter()
            a @ b
            wait(device)
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best
