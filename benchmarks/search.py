"""Hamming search among many codes: seconds for the nearest of a hundred queries, by engine.

The codes are of a mixture of 1,000 centers, each bit flipped with probability 0.1: as with real codes there are near
ones to find, and ties. The first search of each engine is not counted; the two engines must agree, row by row.

    python benchmarks/search.py --codes 10000000 --bits 128 --queries 100 --rounds 5
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import psutil
from machine import cores

from dmzcli.analysis.search import ENGINES, CodeIndex, has_faiss


def draw(rng: np.random.Generator, count: int, width: int, centers: np.ndarray) -> np.ndarray:
    """Packed codes uint8 (count, width), drawn in pieces."""
    codes = np.empty((count, width), np.uint8)
    for start in range(0, count, 1 << 17):
        part = codes[start : start + (1 << 17)]
        flips = rng.random((len(part), 8 * width), np.float32) < 0.1
        part[:] = centers[rng.integers(0, len(centers), len(part))] ^ np.packbits(flips, axis=1)
    return codes


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codes", type=int, default=10_000_000)
    parser.add_argument("--bits", type=int, default=128, help="a multiple of 8")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--neighbors", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rng, width = np.random.default_rng(0), arguments.bits // 8
    centers = rng.integers(0, 256, (1000, width), np.uint8)
    codes = draw(rng, arguments.codes, width, centers)
    queries = draw(rng, arguments.queries, width, centers)
    engines = [engine for engine in ENGINES if engine != "faiss" or has_faiss()]
    built, walls, cpu, found = {}, {e: [] for e in engines}, {e: [] for e in engines}, {}
    for engine in engines:
        started = time.perf_counter()
        built[engine] = CodeIndex(codes, engine), time.perf_counter() - started
        found[engine] = built[engine][0].nearest(queries, arguments.neighbors)
    for _ in range(arguments.rounds):  # in turns
        for engine in engines:
            wall, own = time.perf_counter(), time.process_time()
            built[engine][0].nearest(queries, arguments.neighbors)
            walls[engine].append(time.perf_counter() - wall)
            cpu[engine].append(time.process_time() - own)
    same = all(
        np.array_equal(found[e].rows, found[engines[0]].rows)
        and np.array_equal(found[e].distances, found[engines[0]].distances)
        for e in engines
    )
    print(
        f"{arguments.codes:,} codes of {arguments.bits} bits, {arguments.queries} queries, k = {arguments.neighbors}, "
        f"{cores()} cores ({platform.machine()}), NumPy {np.__version__}, seed 0, "
        f"{arguments.rounds} alternating rounds; load {psutil.getloadavg()[0]:.1f}"
    )
    print(f"all neighbors and distances agree between the engines: {'yes' if same else 'NO'}\n")
    print("| engine | index, s | search, s, median | fastest - slowest | seconds of processor time |")
    print("|---|---|---|---|---|")
    for engine in engines:
        times = sorted(walls[engine])
        print(
            f"| {engine} | {built[engine][1]:.2f} | {statistics.median(times):.2f} | {times[0]:.2f} - {times[-1]:.2f} "
            f"| {statistics.median(cpu[engine]):.2f} |"
        )


if __name__ == "__main__":
    main()
