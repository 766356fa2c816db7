"""How long ``dmz probe`` takes: 50,000 codes of 256 bits with every baseline and every head.

The images are 16×16, gray, ten classes of one template each under noise, and the bits are the signs of random
projections of them; what they tell does not matter here, only how many there are. 40,000 rows are train, 5,000 valid
and 5,000 test. Seconds by the clock and of processor time, by representation and by head.

    python benchmarks/probe.py --threads 2
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import psutil
import torch
from machine import cores

from dmzcli.analysis.probes.heads import HEADS
from dmzcli.analysis.probes.protocol import Rows, measure_all
from dmzcli.analysis.probes.representations import REPRESENTATIONS, Source
from dmzcli.analysis.probes.targets import SPLITS, labels_of
from dmzcli.analysis.retrieval import retrieve
from dmzcli.codes.table import BitTable
from dmzcli.config import Config, assignments, merge, parse, preset
from dmzcli.data import Content, Dataset


def planted(count: int, bits: int, seed: int = 0) -> tuple[BitTable, Dataset]:
    """A dataset, and a table of random projections of it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    templates = rng.normal(size=(10, 256))
    points = templates[labels] + 2 * rng.normal(size=(count, 256))
    images = np.clip(128 + 30 * points, 0, 255).astype(np.uint8).reshape(-1, 16, 16, 1)
    split = np.repeat([0, 1, 2], [count - 2 * (count // 10), count // 10, count // 10]).astype(np.uint8)
    names = tuple("0123456789")
    dataset = Dataset.of("planted", Content(images, split, labels, names))
    odds = points @ rng.normal(size=(256, bits)) / 16
    table = BitTable(
        bits=(odds > 0).astype(np.uint8),
        split=split,
        index=np.arange(count),
        family="bernoulli",
        cardinalities=np.full(bits, 2),
        dataset=dataset.identity,
        model="0" * 64,
        created="now",
        probs=(1 / (1 + np.exp(-odds))).astype(np.float16),
        labels=labels,
        label_names=names,
    )
    return table, dataset


def settings(bits: int) -> Config:
    """Those of the encoder that is not trained: the preset of Fashion-MNIST at 16×16."""
    changes = assignments(["data.size=16", "data.fit=resize", f"model.bits={bits}", "model.attention=[8,4]"])
    return parse(merge(preset("fashion-mnist"), changes), "this benchmark").resolved(16, 1)


class Clock:
    """Prints seconds by the clock and of processor time since the last call."""

    def __init__(self) -> None:
        self.last = self.first = (time.perf_counter(), time.process_time())

    def __call__(self, *cells: str, since: tuple[float, float] | None = None) -> None:
        now = time.perf_counter(), time.process_time()
        wall, busy = (b - a for a, b in zip(since or self.last, now, strict=True))
        print("|", " | ".join([*cells, f"{wall:.1f}", f"{busy:.1f}"]), "|", flush=True)
        self.last = now


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table, dataset = planted(arguments.rows, arguments.bits)
    rows = {split: table.rows(split) for split in SPLITS}
    source = Source(table, dataset, settings(arguments.bits))
    print(
        f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}"
    )
    print(f"load before: {psutil.getloadavg()[0]:.1f} on {cores()} cores\n")
    print("| step | | seconds | processor seconds |\n|---|---|---|---|")
    clock = Clock()
    made = []
    for kind in REPRESENTATIONS.entries.values():
        features = source.features(kind())
        made.append(Rows(kind.title, *(features[rows[split]] for split in SPLITS)))
        clock("make", kind.title)
    clock("make", "all", since=clock.first)
    begun = clock.last
    for head in HEADS.entries:
        for one in made:
            measure_all([one], labels_of(table, rows), rows, [head])
            clock(head, one.name)
    clock("heads", "all", since=begun)
    clock("**all**", "", since=clock.first)
    retrieve(table)
    clock("retrieval", "splits, 1,000 queries")


if __name__ == "__main__":
    main()
