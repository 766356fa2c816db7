"""Encoding beside the bare forward pass of the encoder, and the memory that a large bit table takes.

Encoding is everything that ``dmz encode`` does with a dataset at hand: batches, bits, probabilities, resumable parts
on the disk, and the table. The bare forward pass is the encoder alone on one batch that is at hand as numbers. They
take turns; the table shows medians over the rounds. The weights are those of the initialization: they cost the same.

    python benchmarks/encode.py fashion-mnist --preset fashion-mnist --rounds 5
    python benchmarks/encode.py cifar10-jpeg.tar.xz --preset cifar10
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from machine import resident_mib, wait, words

from dmzcli import data
from dmzcli.codes.encode import encode
from dmzcli.config import Config, parse, preset
from dmzcli.data import Content, Dataset
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_unit
from dmzcli.system.devices import pick

BATCH = 512
LARGE_ROWS, LARGE_BITS = 200_000, 256


def timed(action: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    start, computed = time.perf_counter(), time.process_time()
    action()
    wait(device)
    return time.perf_counter() - start, time.process_time() - computed


def forward(model: Autoencoder, images: torch.Tensor, rows: int) -> None:
    """The encoder alone on ``rows`` images, in batches of the same numbers."""
    with torch.inference_mode():
        for start in range(0, rows, len(images)):
            model.logits(images[: rows - start])


def first(dataset: Dataset, rows: int) -> Dataset:
    """The first rows of a dataset."""
    content = {field.name: getattr(dataset, field.name) for field in fields(Content)}
    for name in ("images", "split", "labels", "attributes", "names"):
        if content[name] is not None:
            content[name] = content[name][:rows]
    return Dataset.of(dataset.name, Content(**content), dataset.fit)


def built(config: Config, dataset: Dataset, device: torch.device) -> Autoencoder:
    """A model for the images of a dataset, at its initialization."""
    torch.manual_seed(config.training.seed)
    size, channels = dataset.images.shape[2:]
    return Autoencoder(config.resolved(size, channels)).to(device).eval()


def added_megabytes() -> float:
    """What encoding a large dataset adds to a process that holds it already, in a fresh process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--alone"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def alone(config: Config, device: torch.device) -> None:
    """Prints the memory for :func:`added_megabytes`."""
    images = np.random.default_rng(0).integers(0, 256, (LARGE_ROWS, 32, 32, 1), dtype=np.uint8)
    dataset = Dataset.of("large", Content(images, np.zeros(LARGE_ROWS, np.uint8)))
    bits = config.model.model_copy(update={"bits": LARGE_BITS})
    model = built(config.model_copy(update={"model": bits}), dataset, device)
    forward(model, to_unit(images[:BATCH], device), BATCH)
    before = resident_mib()
    with tempfile.TemporaryDirectory() as folder:
        encode(model, dataset, Path(folder) / "bits.h5", "0" * 64, batch_size=BATCH)
    print((resident_mib() - before) * 2**20 / 1e6)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="as in dmz train")
    parser.add_argument("--data-dir")
    parser.add_argument("--preset", default="fashion-mnist")
    parser.add_argument("--rows", type=int, default=70_000, help="at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device")
    parser.add_argument("--memory", action="store_true", help="also encode 200,000 rows of 256 bits")
    parser.add_argument("--alone", action="store_true", help="only print the megabytes of that")
    arguments = parser.parse_args()
    device, config = pick(arguments.device), parse(preset(arguments.preset), "preset")
    if arguments.alone:
        alone(config, device)
        return
    shape = {"size": config.data.size, "fit": config.data.fit, "channels": config.data.channels}
    whole = data.load(arguments.dataset, data_dir=arguments.data_dir, cache=True, **shape)
    dataset = first(whole, min(arguments.rows, len(whole)))
    model, rows = built(config, dataset, device), len(dataset)
    batch = to_unit(dataset.images[:BATCH], device)
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bits.h5"
        forward(model, batch, 4 * BATCH)
        for _ in range(arguments.rounds):
            bare.append(timed(lambda: forward(model, batch, rows), device))
            ours.append(timed(lambda: encode(model, dataset, file, "0" * 64, batch_size=BATCH), device))
    print(
        f"{words(device)}, preset {arguments.preset}, {rows:,} rows of {dataset.identity}, "
        f"{model.dim} bits, batch {BATCH}, {arguments.rounds} alternating rounds, seed {config.training.seed}\n"
    )
    print("| | images/s, median | slowest - fastest | images per core second |")
    print("|---|---|---|---|")
    for title, found in (("the encoder's bare forward pass", bare), ("encoding", ours)):
        walls, cores = ([rows / seconds for seconds in column] for column in zip(*found, strict=True))
        shown = f"{statistics.median(walls):,.0f} | {min(walls):,.0f} - {max(walls):,.0f}"
        print(f"| {title} | {shown} | {statistics.median(cores):,.0f} |")
    shares = [statistics.median(a[k] / b[k] for a, b in zip(bare, ours, strict=True)) for k in (0, 1)]
    print(
        f"\nencoding / bare: {shares[0]:.1%} (median of the rounds' ratios), by processor time {shares[1]:.1%}"
    )
    if arguments.memory:
        print(f"{LARGE_ROWS:,} rows of {LARGE_BITS} bits add {added_megabytes():.0f} MB of memory")


if __name__ == "__main__":
    main()
