"""Speed and memory of the priors on a CPU, beside the bars that they must hold.

Codes are synthetic: D thresholded sums of a class center and a few shared normals, so that bits depend on each other
at many scales. Each part runs in a process of its own, so that memory is its own, one after the other.

    python benchmarks/priors.py --out benchmarks/results/priors.md
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from debd import (
    machine,
)  # first of all: this folder's priors.py is not the package, and it takes it off the path
from machine import resident_mib

import priors

SAMPLES = 50_000
COMPARED = 4096  # codes drawn with and without the cache, which is slow; the rates are compared
# Fits whose memory is taken: a minute of a recent processor, and the largest mixtures that a fit tries.
MEMORY = {
    "mixture": {"minutes": 3.0, "components": 512, "smoothing": 3.0, "restarts": 1},
    "chow-liu-mixture": {"minutes": 3.0, "components": 256, "smoothing": 10.0, "restarts": 1},
    "autoregressive": {"minutes": 3.0},
    "masked-diffusion": {"minutes": 3.0},
}
Rows = list[tuple[str, float, float, str, str]]  # what, by the clock, by the process's time, unit, bar


def codes(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Dependent bits, uint8 (n, dim)."""
    rng = np.random.default_rng(seed)
    centers, shared = rng.normal(size=(200, dim)), rng.normal(size=(12, dim))
    out = np.empty((n, dim), np.uint8)
    for at in range(0, n, 10_000):
        rows = len(out[at : at + 10_000])
        logits = centers[rng.integers(0, 200, rows)] + 0.7 * rng.normal(size=(rows, 12)) @ shared
        out[at : at + rows] = rng.random((rows, dim)) < 1 / (1 + np.exp(-logits))
    return out


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a call takes: by the clock, and of this process on all cores, which a busy machine alters less."""
    start, spent = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - spent


def simple(kind: str, dim: int, fit_bar: float, **options: int) -> Rows:
    """Fit and sampling of a kind without a network on 50,000 codes; a tenth of them chooses."""
    bits, prior = codes(SAMPLES, dim), priors.create(kind, dim=dim, **options)
    named = " ".join([kind, *(f"{name}={value}" for name, value in options.items())])
    fit = timed(lambda: prior.fit(bits))
    draw = timed(lambda: prior.sample(SAMPLES))
    return [
        (f"{named}: fit to {SAMPLES:,} × {dim}", *fit, "s", f"< {fit_bar:g}"),
        (f"{named}: {SAMPLES:,} samples of {dim}", *draw, "s", "< 2"),
    ]


def autoregressive(**options: int) -> Rows:
    """Sampling with and without the cache; how well the networks are trained is of no matter to the speed."""
    prior = priors.create("autoregressive", dim=128, epochs=1, **options)
    prior.fit(codes(2000, 128))
    u = np.random.default_rng(0).random((COMPARED, 129), dtype=np.float32)
    cached, without = (timed(lambda c=c: prior._sample(u, None, 1.0, c)) for c in (True, False))
    draw = timed(lambda: prior.sample(SAMPLES))
    named = " ".join(["autoregressive", *(f"{name}={value}" for name, value in options.items())])
    return [
        (f"{named}: {SAMPLES:,} samples of 128", *draw, "s", "< 60"),
        (
            f"{named}: codes/s with the cache over without",
            without[0] / cached[0],
            without[1] / cached[1],
            "×",
            "≥ 10",
        ),
    ]


def memory(kind: str) -> Rows:
    """Peak memory of fitting, scoring and sampling at 200,000 × 256 bits."""
    bits, prior = codes(200_000, 256), priors.create(kind, dim=256, **MEMORY.get(kind, {}))
    seconds, _ = timed(lambda: prior.fit(bits))
    prior.sample(20_000)
    peak = resident_mib() / 2**10
    return [(f"{kind}: peak memory at 200,000 × 256 (fit {seconds:.0f} s)", peak, peak, "GiB", "< 2")]


PARTS: dict[str, Callable[[], Rows]] = {
    "chow-liu": lambda: simple("chow-liu", 256, 5),
    "mixture": lambda: simple("mixture", 128, 60, components=64),
    "chow-liu-mixture": lambda: simple("chow-liu-mixture", 128, 60, components=32),
    "autoregressive": autoregressive,
    "autoregressive-convolutional": lambda: autoregressive(members=1, channels=32),
    **{f"memory-{kind}": lambda kind=kind: memory(kind) for kind in priors.available()},
}


def holds(value: float, bar: str) -> bool:
    """Whether a bar such as ``< 5`` or ``≥ 10`` holds."""
    sign, number = bar.split()
    return value < float(number) if sign == "<" else value >= float(number)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", type=Path, help="Markdown file")
    parser.add_argument("--alone", choices=list(PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(PARTS[arguments.alone]()))
        return
    lines = [
        "# Speed and memory of the priors on a CPU",
        "",
        "By the clock, and in processor time of all cores together.",
        "",
        "| what | clock | processor | bar | by the clock |",
        "|---|---|---|---|---|",
    ]
    for part in arguments.parts:
        command = [sys.executable, __file__, "--alone", part]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for what, clock, spent, unit, bar in json.loads(out.splitlines()[-1]):
            verdict = "holds" if holds(clock, bar) else "MISSED"
            lines.append(f"| {what} | {clock:.2f} {unit} | {spent:.2f} {unit} | {bar} | {verdict} |")
            print(lines[-1], flush=True)
    lines += ["", f"Measured on {machine()}; seed 0.", "", "Command: `python benchmarks/priors.py`", ""]
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
