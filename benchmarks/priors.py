"""Speed and memory of the priors on a CPU, beside the bars that they must hold.

Codes are synthetic: D thresholded sums of a class centre and a few shared normals, so that bits depend on each other
at many scales. Each part runs in a process of its own, so that memory is its own, one after the other.

    python benchmarks/priors.py --out benchmarks/results/priors.md
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from debd import (
    machine,
)  # first of all: it takes this folder, whose priors.py is not the package, off the path

import priors

SAMPLES = 50_000
UNCACHED = 1024  # codes drawn without the cache, which is slow; its rate is compared
Rows = list[tuple[str, float, str, str]]  # what, measured, unit, bar


def codes(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Dependent bits, uint8 (n, dim)."""
    rng = np.random.default_rng(seed)
    centres, shared = rng.normal(size=(200, dim)), rng.normal(size=(12, dim))
    out = np.empty((n, dim), np.uint8)
    for at in range(0, n, 10_000):
        rows = len(out[at : at + 10_000])
        logits = centres[rng.integers(0, 200, rows)] + 0.7 * rng.normal(size=(rows, 12)) @ shared
        out[at : at + rows] = rng.random((rows, dim)) < 1 / (1 + np.exp(-logits))
    return out


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def simple(kind: str, dim: int, fit_bar: float, **options: int) -> Rows:
    """Fit and sampling of a kind without a network on 50,000 codes; a tenth of them chooses."""
    bits, prior = codes(SAMPLES, dim), priors.create(kind, dim=dim, **options)
    named = " ".join([kind, *(f"{name}={value}" for name, value in options.items())])
    fit = timed(lambda: prior.fit(bits))
    draw = timed(lambda: prior.sample(SAMPLES))
    return [
        (f"{named}: fit to {SAMPLES:,} × {dim}", fit, "s", f"< {fit_bar:g}"),
        (f"{named}: {SAMPLES:,} samples of {dim}", draw, "s", "< 2"),
    ]


def autoregressive(**options: int) -> Rows:
    """Sampling with and without the cache; the weights are of no matter to the speed."""
    prior = priors.create("autoregressive", dim=128, epochs=1, **options)
    prior.fit(codes(2000, 128))
    u = np.random.default_rng(0).random((UNCACHED, 129), dtype=np.float32)
    block = prior.sample_rows
    rates = {}
    for cached in (True, False):
        seconds = timed(
            lambda c=cached: [
                prior._sample(u[a : a + block], None, 1.0, c) for a in range(0, UNCACHED, block)
            ]
        )
        rates[cached] = UNCACHED / seconds
    draw = timed(lambda: prior.sample(SAMPLES))
    named = " ".join(["autoregressive", *(f"{name}={value}" for name, value in options.items())])
    return [
        (f"{named}: {SAMPLES:,} samples of 128", draw, "s", "< 60"),
        (f"{named}: codes/s with the cache over without", rates[True] / rates[False], "×", "≥ 10"),
    ]


def memory(kind: str) -> Rows:
    """Peak memory of fitting, scoring and sampling at 200,000 × 256 bits."""
    options = {"autoregressive": {"epochs": 1}, "masked-diffusion": {"epochs": 1}}.get(kind, {})
    bits, prior = codes(200_000, 256), priors.create(kind, dim=256, **options)
    seconds = timed(lambda: prior.fit(bits))
    prior.sample(20_000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [(f"{kind}: peak memory at 200,000 × 256 (fit {seconds:.0f} s)", peak, "GiB", "< 2")]


PARTS: dict[str, Callable[[], Rows]] = {
    "chow-liu": lambda: simple("chow-liu", 256, 5),
    "mixture": lambda: simple("mixture", 128, 60, components=64),
    "chow-liu-mixture": lambda: simple("chow-liu-mixture", 128, 60, components=32),
    "autoregressive": autoregressive,
    "autoregressive-masked": lambda: autoregressive(channels=0),
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
        "| what | measured | bar | |",
        "|---|---|---|---|",
    ]
    for part in arguments.parts:
        command = [sys.executable, __file__, "--alone", part]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for what, value, unit, bar in json.loads(out.splitlines()[-1]):
            lines.append(
                f"| {what} | {value:.2f} {unit} | {bar} | {'holds' if holds(value, bar) else 'MISSED'} |"
            )
            print(lines[-1], flush=True)
    lines += ["", f"Measured on {machine()}; seed 0.", "", "Command: `python benchmarks/priors.py`", ""]
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
